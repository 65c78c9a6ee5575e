//! Asking a running cluster for its view: through the consoles of the file, or one that is named.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::Method;
use tiebeam_watch::View;

use super::WrongUse;
use crate::demo::{Client, NoAnswer};

const ANSWER_TIME: Duration = Duration::from_secs(2);
/// Where the console of the usual file listens.
const USUAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7480);

#[derive(clap::Args)]
pub struct Cluster {
    /// The configuration file, for the addresses of the consoles
    #[arg(long)]
    config: Option<PathBuf>,
    /// A console to ask, instead of those of the file
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "config")]
    console: Option<SocketAddr>,
}

impl Cluster {
    /// The view of the node that knows most: one with a quorum, if there is one.
    pub fn view(&self) -> anyhow::Result<View> {
        let addresses = self.addresses()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut best: Option<View> = None;
            let mut refused = Vec::new();
            for address in addresses {
                match view(address).await {
                    Ok(view) if view.ledger.quorum => return Ok(view),
                    Ok(view) => best = best.or(Some(view)),
                    Err(error) => refused.push(format!("  {error:#}")),
                }
            }
            best.ok_or_else(|| {
                anyhow::anyhow!(
                    "no node answers:\n{}\nis `tiebeam node` running? (for a demo: `tiebeam demo` shows its console)",
                    refused.join("\n")
                )
            })
        })
    }

    fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        if let Some(console) = self.console {
            return Ok(vec![console]);
        }
        let usual = Path::new("tiebeam.toml");
        let file = match &self.config {
            Some(file) => Some(file.as_path()),
            None => usual.exists().then_some(usual),
        };
        let Some(file) = file else { return Ok(vec![USUAL]) };
        let cluster = super::load(file)?;
        let mut found: Vec<SocketAddr> =
            cluster.nodes.keys().filter_map(|n| cluster.console_address(n)).collect();
        found.dedup();
        if found.is_empty() {
            return Err(WrongUse(format!("{} has no [console] to ask", file.display())).into());
        }
        Ok(found)
    }
}

async fn view(address: SocketAddr) -> anyhow::Result<View> {
    let (status, body) = Client::new(address)
        .ask(Method::GET, "/view.json", ANSWER_TIME)
        .await
        .map_err(|error: NoAnswer| anyhow::anyhow!(error))?;
    anyhow::ensure!(status.is_success(), "{address} answered {status}");
    Ok(serde_json::from_slice(&body)?)
}
