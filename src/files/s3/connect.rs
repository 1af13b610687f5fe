//! A client of S3, made of the configuration and of what the environment says.

use std::io;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_smithy_http_client::{Builder, tls};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the first byte of an answer may take.
const READ: Duration = Duration::from_secs(60);
/// How long one request may take with what it sends: the largest part over a slow line.
const ATTEMPT: Duration = Duration::from_secs(300);
/// Tries of one request; then the step that needed it is put off and tried again later.
const ATTEMPTS: u32 = 4;
/// Where a store of one's own is, for the signature.
const SOMEWHERE: &str = "us-east-1";

/// Where the store is and how it is spoken to.
///
/// What is not said here is taken from the environment, as every tool of AWS does: credentials from
/// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, a profile, a web identity or the machine's role;
/// `AWS_REGION`; `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connection {
    /// The address of a store that is not AWS's own, such as `http://minio:9000`.
    pub endpoint: Option<String>,
    /// The bucket's region; a store of one's own need have none.
    pub region: Option<String>,
    /// Whether the bucket's name is in the path and not in the host [true where there is an endpoint].
    pub path_style: Option<bool>,
}

impl Connection {
    /// Makes the client. Nothing is asked of the store yet.
    ///
    /// # Errors
    /// There is no region, or no root certificate to know the store by.
    pub async fn client(&self) -> io::Result<Client> {
        let endpoint = self.endpoint();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http(endpoint.as_deref()).await?)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT)
                    .read_timeout(READ)
                    .operation_attempt_timeout(ATTEMPT)
                    .build(),
            );
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        let shared = loader.load().await;
        let mut config = aws_sdk_s3::config::Builder::from(&shared);
        if shared.region().is_none() {
            if endpoint.is_none() {
                return Err(io::Error::other(
                    "no region is set; set AWS_REGION, or region under [s3]",
                ));
            }
            config = config.region(Region::new(SOMEWHERE));
        }
        if let Some(endpoint) = &endpoint {
            // Not every store knows the checksums that AWS has by default.
            config = config
                .endpoint_url(endpoint)
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        let path_style = self.path_style.unwrap_or(endpoint.is_some());
        Ok(Client::from_conf(
            config.force_path_style(path_style).build(),
        ))
    }

    fn endpoint(&self) -> Option<String> {
        let from = |name| std::env::var(name).ok().filter(|url| !url.is_empty());
        self.endpoint
            .clone()
            .or_else(|| from("AWS_ENDPOINT_URL_S3"))
            .or_else(|| from("AWS_ENDPOINT_URL"))
    }
}

/// The client of HTTP: the one with TLS would panic on a machine without root certificates.
async fn http(endpoint: Option<&str>) -> io::Result<SharedHttpClient> {
    let roots = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs);
    if !roots.await.map_err(io::Error::other)?.certs.is_empty() {
        let provider = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
        return Ok(Builder::new().tls_provider(provider).build_https());
    }
    if endpoint.is_some_and(|url| url.starts_with("http://")) {
        return Ok(Builder::new().build_http());
    }
    Err(io::Error::other(
        "this machine has no root certificates to know the store by; install ca-certificates, or name a file of them in SSL_CERT_FILE",
    ))
}
