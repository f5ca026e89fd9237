//! The SDK's clients, made once per process.

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

/// Tries of a call that failed in a way that may pass, throttling among them.
const TRIES: u32 = 5;

/// How long one try may take before the next one.
const ATTEMPT: Duration = Duration::from_secs(30);

/// How long a start may wait for a connection.
const CONNECT: Duration = Duration::from_secs(1);

/// The clients, with endpoint, region and credentials as AWS's tools take them: `AWS_ENDPOINT_URL`, `AWS_REGION`,
/// `AWS_PROFILE` and so on. Each is made when it is first asked for, and shared from then on.
#[derive(Debug, Clone)]
pub struct Clients {
    config: SdkConfig,
    dynamodb: OnceLock<aws_sdk_dynamodb::Client>,
    s3: OnceLock<aws_sdk_s3::Client>,
    sqs: OnceLock<aws_sdk_sqs::Client>,
}

/// Speaks HTTP for the SDK, with the cryptography that the rest of the program has.
pub fn http_client() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

impl Clients {
    /// The clients of this environment.
    pub async fn load() -> Self {
        let timeouts =
            TimeoutConfig::builder().connect_timeout(Duration::from_secs(3)).operation_attempt_timeout(ATTEMPT);
        let config = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http_client())
            .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
            .timeout_config(timeouts.build());
        Self::new(config.load().await)
    }

    /// For who calls nothing.
    pub fn unconfigured() -> Self {
        Self::new(SdkConfig::builder().build())
    }

    /// The clients of this configuration.
    pub fn new(config: SdkConfig) -> Self {
        Self { config, dynamodb: OnceLock::new(), s3: OnceLock::new(), sqs: OnceLock::new() }
    }

    /// DynamoDB.
    pub fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        self.dynamodb.get_or_init(|| aws_sdk_dynamodb::Client::new(&self.config)).clone()
    }

    /// S3.
    pub fn s3(&self) -> aws_sdk_s3::Client {
        let client = self.s3.get_or_init(|| {
            // Emulators have no host name for each bucket.
            let path_style = self.config.endpoint_url().is_some();
            let config = aws_sdk_s3::config::Builder::from(&self.config).force_path_style(path_style);
            aws_sdk_s3::Client::from_conf(config.build())
        });
        client.clone()
    }

    /// SQS.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        self.sqs.get_or_init(|| aws_sdk_sqs::Client::new(&self.config)).clone()
    }

    /// Connects to DynamoDB, so that the first call need not. A function has more CPU for TLS while it starts than later.
    pub async fn connect_dynamodb(&self) {
        let config = aws_sdk_dynamodb::config::Builder::new().retry_config(RetryConfig::disabled());
        let knock = self.dynamodb().update_item().table_name("none").customize();
        connected("DynamoDB", knock.config_override(config).interceptor(Preconnect).send()).await;
    }

    /// Connects to S3, as [`Clients::connect_dynamodb`] does.
    pub async fn connect_s3(&self, bucket: &str) {
        let config = aws_sdk_s3::config::Builder::new().retry_config(RetryConfig::disabled());
        let knock = self.s3().get_object().bucket(bucket).key("none").customize();
        connected("S3", knock.config_override(config).interceptor(Preconnect).send()).await;
    }

    /// Connects to SQS, as [`Clients::connect_dynamodb`] does.
    pub async fn connect_sqs(&self) {
        let config = aws_sdk_sqs::config::Builder::new().retry_config(RetryConfig::disabled());
        let knock = self.sqs().send_message().queue_url("none").message_body("none").customize();
        connected("SQS", knock.config_override(config).interceptor(Preconnect).send()).await;
    }
}

/// Waits for the answer, which says nothing: a connection has been made, or the first call finds out why not.
async fn connected<T, E>(service: &str, answer: impl Future<Output = Result<T, E>>) {
    if tokio::time::timeout(CONNECT, answer).await.is_err() {
        debug!(service, "no connection was made in time");
    }
}

/// Makes of a call a `GET /` by nobody: it needs no permission, costs nothing, and is in nobody's audit trail.
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
