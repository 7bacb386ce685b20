//! The HTTP client below everything: one pool of connections, no redirects, no retries.

use crate::{ModelConfig, config::seconds, provider::Provider};
use forerunner_core::{Error, Result};
use std::{sync::Arc, time::Duration};

/// A client for one model. Certificates are read where they are needed only.
///
/// # Errors
/// When the system has none.
pub(crate) fn client(config: &ModelConfig, provider: &Provider) -> Result<reqwest::Client> {
    let url = provider.base_url.as_deref().and_then(|url| reqwest::Url::parse(url).ok());
    let plain = url.as_ref().is_some_and(|url| url.scheme() == "http")
        || provider.name == "ollama" && url.is_none();
    let local = provider.name == "ollama" && url.is_none()
        || url.as_ref().and_then(reqwest::Url::host_str).is_some_and(|host| {
            let host = host.trim_matches(['[', ']']);
            host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        });
    let mut roots = rustls::RootCertStore::empty();
    if !plain {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(Error::failed(format!(
                "cannot ask `{}`: no certificates of authorities on this machine\nhint: install the system's package of \
                 CA certificates, or name a file in SSL_CERT_FILE",
                config.name
            )));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::failed)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .http1_only()
        .no_gzip()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(seconds(config.timeout_seconds).min(Duration::from_secs(30)))
        .pool_max_idle_per_host(config.concurrency)
        .tcp_nodelay(true)
        .user_agent(concat!("forerunner/", env!("CARGO_PKG_VERSION")));
    if local {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| Error::failed(error.without_url()))
}
