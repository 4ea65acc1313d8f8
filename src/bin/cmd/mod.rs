//! The subcommands, and the flags they share.

pub mod data;
pub mod doctor;
pub mod domain;
mod job;
pub mod join;
pub mod manager;
mod participant;
pub mod relay;
pub mod sim;
pub mod task;
pub mod up;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use peerage::base::{Code, Error};
use peerage::node::data::DataDir;
use peerage::node::settings::Settings;
use peerage::platform::native::TlsFiles;

/// Flags of every subcommand.
#[derive(Args)]
pub struct Common {
    /// Where keys and the domain are kept [default: ~/.local/share/peerage, or peerage in XDG_DATA_HOME]
    #[arg(long, global = true, value_name = "DIR", env = "PEERAGE_DATA")]
    data: Option<PathBuf>,
    /// A settings file (TOML); flags and the environment win over it
    #[arg(long, global = true, value_name = "FILE", env = "PEERAGE_CONFIG")]
    config: Option<PathBuf>,
}

impl Common {
    /// The settings file, read.
    pub fn settings(&self) -> Result<Settings, Error> {
        Settings::read(self.config.as_deref())
    }

    /// The data directory, made if missing.
    pub fn data(&self, settings: &Settings) -> Result<DataDir, Error> {
        match self.data.as_ref().or(settings.data.as_ref()) {
            Some(path) => DataDir::open(path),
            None => DataDir::open(&DataDir::default_path()?),
        }
    }
}

/// The certificate for `/tls/ws`.
#[derive(Args)]
pub struct Tls {
    /// This server's certificate and those behind it, as a PEM file, for addresses that end in /tls/ws. When it is renewed, new connections get the new one
    #[arg(long, value_name = "FILE", env = "PEERAGE_TLS_CERTIFICATE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Its private key, as a PEM file
    #[arg(long, value_name = "FILE", env = "PEERAGE_TLS_KEY", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
}

impl Tls {
    /// The files, as flags or as the settings name them.
    pub fn files(self, settings: &Settings) -> Option<TlsFiles> {
        let flags = self.tls_certificate.zip(self.tls_key).map(|(certificate, key)| TlsFiles { certificate, key });
        flags.or_else(|| settings.tls.clone())
    }
}

/// What a file's failure is told as.
pub fn failed(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |e| Error::new(Code::Storage, format!("{} {what}", path.display())).caused_by(e)
}

/// Prints one JSON line, at once.
pub fn say(value: &impl serde::Serialize) -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::new(Code::Storage, "standard output cannot be written").caused_by(e);
    let mut line = serde_json::to_vec(value).map_err(|e| failed(e.into()))?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line).and_then(|()| out.flush()).map_err(failed)
}
