//! A mounted certificate. It is read again periodically: renewing it only takes replacing the files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ServerConfig, server};

const LOOK_AGAIN: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Accepts connections with the current certificate of these files.
pub async fn acceptor(chain: PathBuf, key: PathBuf) -> anyhow::Result<TlsAcceptor> {
    let mut bytes = read(&chain, &key).await?;
    let current = Arc::new(Current(RwLock::new(Arc::new(certified(&bytes)?))));
    let mut config: ServerConfig = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .context("no TLS")?
        .with_no_client_auth()
        .with_cert_resolver(Arc::clone(&current) as Arc<dyn server::ResolvesServerCert>);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let watched = Arc::downgrade(&current);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let Some(current) = watched.upgrade() else { return };
            match read(&chain, &key).await {
                Ok(new) if new == bytes => {}
                Ok(new) => match certified(&new) {
                    Ok(certified) => {
                        tracing::info!("the certificate was renewed");
                        *current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
                        bytes = new;
                    }
                    // The files are replaced one after the other: the next read finds both.
                    Err(error) => tracing::warn!("the new certificate cannot be used: {error:#}"),
                },
                Err(error) => tracing::warn!("the certificate cannot be read again: {error:#}"),
            }
        }
    });
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn read(chain: &Path, key: &Path) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let file =
        async |path: &Path| tokio::fs::read(path).await.with_context(|| format!("cannot read {}", path.display()));
    Ok((file(chain).await?, file(key).await?))
}

fn certified((chain, key): &(Vec<u8>, Vec<u8>)) -> anyhow::Result<CertifiedKey> {
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>().context("the chain is no PEM")?;
    anyhow::ensure!(!chain.is_empty(), "there is no certificate in the chain");
    let key = PrivateKeyDer::from_pem_slice(key).context("the key is no PEM")?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).context("the key does not fit the certificate")
}
