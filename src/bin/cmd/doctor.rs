//! `peerage doctor`

use clap::Args;
use futures::future::join_all;
use peerage::base::{Code, Error};
use peerage::node::doctor::{Transport, Way, findings, try_out};
use peerage::node::domain::DomainFiles;
use peerage::wire::link::InviteLink;

use super::Common;

/// Try every way to the relays, and say what is blocked and what is used instead
///
/// Each way is tried by itself, for at most 15 seconds. Ends with an error if none works.
#[derive(Args)]
#[command(after_help = "Examples:
  peerage doctor                        the relays that the domain of this machine was reached through last
  peerage doctor 'https://…/#…'         those of an invitation; nobody is joined
  peerage doctor /dns4/relay.example/tcp/9611/ws/p2p/12D3KooW…")]
pub struct Doctor {
    /// Invitation links, or addresses that end in /p2p/<id>
    #[arg(value_name = "LINK|MULTIADDR")]
    to: Vec<String>,
}

impl Doctor {
    pub async fn run(self, common: &Common) -> Result<(), Error> {
        let mut addresses = Vec::new();
        for named in &self.to {
            if named.starts_with('/') {
                addresses.push(named.clone());
            } else {
                addresses.extend(InviteLink::parse(named)?.relays);
            }
        }
        if self.to.is_empty() {
            let settings = common.settings()?;
            addresses = DomainFiles::open(&common.data(&settings)?)?.noted_relays()?;
        }
        addresses.dedup();
        if addresses.is_empty() {
            return Err(Error::new(Code::NoRelay, "no relay is known here").hint("Name an invitation link or a relay's address"));
        }
        let ways = join_all(addresses.into_iter().map(try_out)).await;
        ways.iter().for_each(show);
        for finding in findings(&ways) {
            println!("\n{finding}");
        }
        if ways.iter().any(|w| w.outcome.is_ok()) {
            return Ok(());
        }
        Err(Error::new(Code::NoRelay, "no relay can be reached")
            .hint("See whether it runs: peerage relay says its addresses when it starts"))
    }
}

fn show(Way { address, outcome }: &Way) {
    let transport = Transport::of(address);
    match outcome {
        Ok(rtt) => println!("works {:>6.1} ms  {transport:<14} {address}", rtt.as_secs_f64() * 1_000.0),
        Err(error) => println!("fails            {transport:<14} {address}\n      {}", error.one_line()),
    }
}
