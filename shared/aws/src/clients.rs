//! AWS SDK clients, created once per process.

use std::sync::OnceLock;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_s3::config::SharedHttpClient;
use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use tracing::debug;

/// The maximum number of tries of a call that fails with a temporary error, such as throttling.
const TRIES: u32 = 5;

/// The timeout of one try.
const ATTEMPT: Duration = Duration::from_secs(30);

/// The timeout of a connection at startup.
const CONNECT: Duration = Duration::from_secs(1);

/// The AWS clients. Endpoint, region and credentials come from the standard AWS variables: `AWS_ENDPOINT_URL`,
/// `AWS_REGION`, `AWS_PROFILE` and others. Each client is created at its first use and then shared.
#[derive(Debug, Clone)]
pub struct Clients {
    config: SdkConfig,
    dynamodb: OnceLock<aws_sdk_dynamodb::Client>,
    s3: OnceLock<aws_sdk_s3::Client>,
    sqs: OnceLock<aws_sdk_sqs::Client>,
}

/// Returns an HTTP client for the SDK that uses ring, the cryptography of the rest of the program.
pub fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

impl Clients {
    /// Creates the clients from the environment.
    pub async fn load() -> Self {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(Duration::from_secs(3)).operation_attempt_timeout(ATTEMPT);
        let config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client())
            .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
            .timeout_config(timeouts.build());
        Self::new(config.load().await)
    }

    /// Returns clients of a function that makes no AWS calls.
    pub fn unconfigured() -> Self {
        Self::new(SdkConfig::builder().build())
    }

    /// Creates the clients from this configuration.
    pub fn new(config: SdkConfig) -> Self {
        Self { config, dynamodb: OnceLock::new(), s3: OnceLock::new(), sqs: OnceLock::new() }
    }

    /// Returns the configuration of the clients.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// Returns the DynamoDB client.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        self.dynamodb.get_or_init(|| aws_sdk_dynamodb::Client::new(&self.config)).clone()
    }

    /// Returns the S3 client.
    pub fn s3(&self) -> aws_sdk_s3::Client {
        let client = self.s3.get_or_init(|| {
            // Emulators do not support a host name per bucket.
            let path_style = self.config.endpoint_url().is_some();
            let config = aws_sdk_s3::config::Builder::from(&self.config).force_path_style(path_style);
            aws_sdk_s3::Client::from_conf(config.build())
        });
        client.clone()
    }

    /// Returns the SQS client.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        self.sqs.get_or_init(|| aws_sdk_sqs::Client::new(&self.config)).clone()
    }

    /// Connects to DynamoDB in advance, so that the first call does not wait for the TLS handshake. A Lambda function
    /// has more CPU during its start than later.
    pub async fn connect_dynamodb(&self) {
        let config = aws_sdk_dynamodb::config::Builder::new().retry_config(RetryConfig::disabled());
        let knock = self.dynamodb().update_item().table_name("none").customize();
        connected("DynamoDB", knock.config_override(config).interceptor(Preconnect).send()).await;
    }

    /// Connects to S3 in advance, like [`Clients::connect_dynamodb`].
    pub async fn connect_s3(&self, bucket: &str) {
        let config = aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled());
        let knock = self.s3().get_object().bucket(bucket).key("none").customize();
        connected("S3", knock.config_override(config).interceptor(Preconnect).send()).await;
    }

    /// Connects to SQS in advance, like [`Clients::connect_dynamodb`].
    pub async fn connect_sqs(&self) {
        let config = aws_sdk_sqs::config::Builder::new().retry_config(RetryConfig::disabled());
        let knock = self.sqs().send_message().queue_url("none").message_body("none").customize();
        connected("SQS", knock.config_override(config).interceptor(Preconnect).send()).await;
    }
}

/// Waits for the response and ignores it: if the connection failed, the first real call reports the error.
async fn connected<T, E>(service: &str, answer: impl Future<Output = Result<T, E>>) {
    if tokio::time::timeout(CONNECT, answer).await.is_err() {
        debug!(service, "connection timed out");
    }
}

/// The interceptor that replaces a call with an anonymous `GET /`. This request needs no permission, costs nothing,
/// and does not appear in an audit trail.
#[derive(Debug)]
struct Preconnect;

impl Intercept for Preconnect {
    fn name(&self) -> &'static str {
        "Preconnect"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let (scheme, rest) = request.uri().split_once("://").ok_or("no scheme")?;
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        *request = HttpRequest::get(format!("{scheme}://{authority}/"))?;
        Ok(())
    }
}
