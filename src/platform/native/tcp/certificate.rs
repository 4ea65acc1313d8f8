//! The certificate of a server for `wss`, from files that somebody else renews.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_rustls::TlsAcceptor;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::Deserialize;

use crate::base::{Code, Error};

/// A certificate and its private key in PEM files, as ACME clients keep them. When either file changes, the next connection gets what is
/// there then; connections that are up are not touched. If that is not whole, or the two do not belong together, the last that was
/// right stays in use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The server's certificate, and behind it those that lead to a certificate authority.
    pub certificate: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// When the two files were changed last, their rights included, and how long they are.
type Stamp = [Option<(i64, i64, u64)>; 2];

struct Renewed {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: Mutex<(Stamp, Arc<CertifiedKey>)>,
}

/// Takes TLS connections with that certificate.
///
/// # Errors
/// [`Code::Storage`] if a file cannot be read, [`Code::BadArgument`] if it holds no certificate or key, or they do not belong together.
pub(in super::super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let stamp = files.stamp();
    let current = Mutex::new((stamp, files.load(&provider)?));
    let renewed = Renewed { files: files.clone(), provider: provider.clone(), current };
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = versions.map_err(|e| Error::new(Code::Unsupported, "no TLS").caused_by(e))?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(renewed));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

impl TlsFiles {
    fn stamp(&self) -> Stamp {
        let one = |path: &Path| std::fs::metadata(path).map(|m| (m.ctime(), m.ctime_nsec(), m.len())).ok();
        [one(&self.certificate), one(&self.key)]
    }

    fn load(&self, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, Error> {
        let wrong = |path: &Path, what: &str, e: pem::Error| match e {
            pem::Error::Io(e) => Error::new(Code::Storage, format!("{} cannot be read", path.display())).caused_by(e),
            e => Error::new(Code::BadArgument, format!("{} holds no {what}", path.display()))
                .hint("It has to be a PEM file, with lines such as -----BEGIN CERTIFICATE-----")
                .caused_by(e),
        };
        let chain = CertificateDer::pem_file_iter(&self.certificate).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let chain = chain.map_err(|e| wrong(&self.certificate, "certificate", e))?;
        if chain.is_empty() {
            return Err(wrong(&self.certificate, "certificate", pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|e| wrong(&self.key, "private key", e))?;
        let pair = CertifiedKey::from_der(chain, key, provider).map_err(|e| {
            let what = format!("{} and {} do not go together", self.key.display(), self.certificate.display());
            Error::new(Code::BadArgument, what).hint("The key has to be that of the file's first certificate").caused_by(e)
        })?;
        Ok(Arc::new(pair))
    }
}

impl Renewed {
    /// What is in the files now, if that is right.
    fn current(&self) -> Arc<CertifiedKey> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.files.stamp();
        if stamp != current.0 {
            // What is wrong is said once, and looked at again when it changes.
            current.0 = stamp;
            match self.files.load(&self.provider) {
                Ok(new) => {
                    tracing::info!("the certificate in {} is used from now on", self.files.certificate.display());
                    current.1 = new;
                }
                Err(e) => tracing::warn!("the certificate of before is used still: {e}"),
            }
        }
        current.1.clone()
    }
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").field("files", &self.files).finish_non_exhaustive()
    }
}
