//! One request to a catalog: with its token, tried again where that is safe, within limits of time, size and attempts.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use floe_wire::error::{QueryError, Result};
use reqwest_tls::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest_tls::{Client, Method, Response, Url, redirect};
use tokio::sync::Mutex;

use crate::auth::{ClientCredentials, Credentials, Granted, Token};
use crate::error;
use crate::options::CatalogOptions;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Attempts at one request, and how often one that did not answer in time is sent again.
const ATTEMPTS: u32 = 4;
const SLOW_ATTEMPTS: u32 = 2;
/// The first pause, doubled each time, and the longest that a server may ask for.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const REDIRECTS: u32 = 5;
/// Metadata of a table with ten thousands of snapshots is smaller.
const ANSWER_BYTES: usize = 1 << 30;

/// The connection to one catalog.
pub struct Link {
    pub name: String,
    pub base: Url,
    pub credentials: Credentials,
    client: Client,
    headers: HeaderMap,
    token: Mutex<Option<Token>>,
}

pub struct Request {
    pub method: Method,
    /// Below the base and encoded: `v1/config?warehouse=w`.
    pub path: String,
    /// JSON.
    pub body: Option<Bytes>,
    /// Ask for credentials of the table's files.
    pub delegate: bool,
}

pub struct Answer {
    pub status: u16,
    pub body: Bytes,
    /// Whether it was sent before, and the server may have done it then.
    pub was_sent: bool,
}

/// A request without an answer.
pub enum Fault {
    /// It has changed nothing.
    NotDone(QueryError),
    /// The server may have done it.
    Unknown(QueryError),
}

impl Fault {
    pub fn into_error(self) -> QueryError {
        match self {
            Fault::NotDone(error) | Fault::Unknown(error) => error,
        }
    }
}

impl Request {
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None, delegate: false }
    }

    pub fn head(path: impl Into<String>) -> Self {
        Self { method: Method::HEAD, ..Self::get(path) }
    }

    pub fn post(path: impl Into<String>, body: &serde_json::Value) -> Self {
        Self { method: Method::POST, body: Some(body.to_string().into()), ..Self::get(path) }
    }

    fn is_safe(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }
}

impl Link {
    pub fn open(options: &CatalogOptions) -> Result<Self> {
        let base = options.base()?;
        let client = Client::builder()
            .user_agent(concat!("floe/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_LIMIT)
            .timeout(options.answer_limit()?)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| {
                QueryError::io(format!("cannot prepare requests to catalogs: {}", error::causes(&error)))
            })?;
        let credentials = Credentials::of(options, &base)?;
        let token = match &credentials {
            Credentials::Token(token) | Credentials::Client { token: Some(token), .. } => {
                Some(Token { value: token.clone(), renew_at: None, number: 0 })
            }
            Credentials::None | Credentials::Basic(_) | Credentials::Client { token: None, .. } => None,
        };
        let headers = options.headers()?;
        Ok(Self { name: options.name.clone(), base, credentials, client, headers, token: Mutex::new(token) })
    }

    fn url(&self, path: &str) -> Result<Url> {
        let whole = format!("{}/{path}", self.base.as_str().trim_end_matches('/'));
        Url::parse(&whole).map_err(|error| QueryError::internal(format!("catalog {}: a URL: {error}", self.name)))
    }

    pub async fn send(&self, request: &Request) -> Result<Answer, Fault> {
        let mut url = self.url(&request.path).map_err(Fault::NotDone)?;
        let (mut attempt, mut redirects, mut was_sent, mut is_renewed) = (1, 0, false, false);
        loop {
            let (authorization, number) = self.authorization().await.map_err(Fault::NotDone)?;
            let response = match self.once(&url, request, authorization.as_ref()).await {
                Ok(response) => response,
                Err(error) => {
                    let is_sent = !error.is_connect();
                    let attempts = if error.is_timeout() { SLOW_ATTEMPTS } else { ATTEMPTS };
                    if attempt < attempts && (request.is_safe() || !is_sent) {
                        tokio::time::sleep(pause(attempt, None)).await;
                        attempt += 1;
                        continue;
                    }
                    let error = error::silent(&self.name, &url, &error);
                    let is_unknown = is_sent || was_sent;
                    return Err(if is_unknown && !request.is_safe() {
                        Fault::Unknown(error)
                    } else {
                        Fault::NotDone(error)
                    });
                }
            };
            let status = response.status().as_u16();
            let wait = retry_after(&response);
            match status {
                // 419: the token has expired.
                401 | 419 if !is_renewed && self.can_renew() => {
                    self.renew(number).await.map_err(Fault::NotDone)?;
                    is_renewed = true;
                }
                301 | 302 | 307 | 308 => {
                    redirects += 1;
                    url = self.redirected(&url, request, &response, redirects).map_err(Fault::NotDone)?;
                }
                429 if attempt < ATTEMPTS => {
                    tokio::time::sleep(pause(attempt, wait)).await;
                    attempt += 1;
                }
                500 | 502 | 503 | 504
                    if attempt < ATTEMPTS && (request.is_safe() || status == 503 && wait.is_some()) =>
                {
                    tokio::time::sleep(pause(attempt, wait)).await;
                    attempt += 1;
                    was_sent = true;
                }
                _ => {
                    return match body(response).await {
                        Ok(body) => Ok(Answer { status, body, was_sent }),
                        Err(why) => {
                            let error = QueryError::io(format!("catalog {}: {}: {why}", self.name, error::shown(&url)));
                            Err(if request.is_safe() { Fault::NotDone(error) } else { Fault::Unknown(error) })
                        }
                    };
                }
            }
        }
    }

    async fn once(
        &self,
        url: &Url,
        request: &Request,
        authorization: Option<&HeaderValue>,
    ) -> reqwest_tls::Result<Response> {
        let mut sent = self.client.request(request.method.clone(), url.clone()).headers(self.headers.clone());
        if let Some(authorization) = authorization {
            sent = sent.header(AUTHORIZATION, authorization);
        }
        if request.delegate {
            sent = sent.header("X-Iceberg-Access-Delegation", "vended-credentials");
        }
        if let Some(body) = &request.body {
            sent = sent.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        sent.send().await
    }

    /// Within the catalog's own server a redirect is followed. Another server would be shown the token.
    fn redirected(&self, from: &Url, request: &Request, response: &Response, redirects: u32) -> Result<Url> {
        let to = response.headers().get(LOCATION).and_then(|to| from.join(to.to_str().ok()?).ok());
        let refuse = |what: String| Err(QueryError::user("BadCatalog", format!("catalog {}: {what}", self.name)));
        let Some(to) = to else {
            return refuse(format!("{} redirects to no address", error::shown(from)));
        };
        if to.origin() != from.origin() {
            return refuse(format!(
                "{} redirects to another server, {}, which is not shown the credentials: write that server's address as the \
                 catalog's uri",
                error::shown(from),
                to.origin().ascii_serialization()
            ));
        }
        if redirects > REDIRECTS || !request.is_safe() {
            return refuse(format!(
                "{} redirects to {}: write the catalog's own address",
                error::shown(from),
                error::shown(&to)
            ));
        }
        Ok(to)
    }

    fn can_renew(&self) -> bool {
        matches!(self.credentials, Credentials::Client { .. })
    }

    /// What to show, and the number of the token in it.
    async fn authorization(&self) -> Result<(Option<HeaderValue>, u64)> {
        let (text, number) = match &self.credentials {
            Credentials::None => return Ok((None, 0)),
            Credentials::Basic(pair) => (format!("Basic {}", pair.reveal()), 0),
            Credentials::Token(token) => (format!("Bearer {}", token.reveal()), 0),
            Credentials::Client { client, .. } => {
                let mut kept = self.token.lock().await;
                let token = match kept.take() {
                    Some(token) if !token.is_due(Instant::now()) => token,
                    old => self.ask_token(client, old.map_or(0, |token| token.number)).await?,
                };
                let shown = (format!("Bearer {}", token.value.reveal()), token.number);
                *kept = Some(token);
                shown
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            QueryError::user(
                "BadCatalog",
                format!("catalog {}: its token has characters that no header can have", self.name),
            )
        })?;
        value.set_sensitive(true);
        Ok((Some(value), number))
    }

    /// Replaces the token of that number, unless another request has done so.
    async fn renew(&self, number: u64) -> Result<()> {
        let Credentials::Client { client, .. } = &self.credentials else { return Ok(()) };
        let mut kept = self.token.lock().await;
        if kept.as_ref().is_none_or(|token| token.number <= number) {
            *kept = None;
            *kept = Some(self.ask_token(client, number).await?);
        }
        Ok(())
    }

    async fn ask_token(&self, client: &ClientCredentials, last: u64) -> Result<Token> {
        let mut attempt = 1;
        loop {
            let asked = Instant::now();
            let request = self.client.post(client.url.clone()).headers(self.headers_of_tokens(client));
            let failure = match request.form(&client.form()).send().await {
                Err(error) if attempt == ATTEMPTS || error.is_timeout() && attempt == SLOW_ATTEMPTS => {
                    return Err(error::silent(&self.name, &client.url, &error));
                }
                Err(_) => None,
                Ok(response) => {
                    let (status, wait) = (response.status().as_u16(), retry_after(&response));
                    if !matches!(status, 429 | 500 | 502 | 503 | 504) || attempt == ATTEMPTS {
                        let body =
                            body(response).await.map_err(|why| error::no_token(&self.name, &client.url, &why))?;
                        if status != 200 {
                            return Err(error::token_refused(&self.name, &client.url, status, &body));
                        }
                        let granted: Granted = serde_json::from_slice(&body).map_err(|_| {
                            error::no_token(&self.name, &client.url, "the answer is no token (access_token)")
                        })?;
                        return Ok(granted.into_token(asked, last + 1));
                    }
                    wait
                }
            };
            tokio::time::sleep(pause(attempt, failure)).await;
            attempt += 1;
        }
    }

    /// Headers that are meant for the catalog are not sent to another server.
    fn headers_of_tokens(&self, client: &ClientCredentials) -> HeaderMap {
        if client.url.origin() == self.base.origin() { self.headers.clone() } else { HeaderMap::new() }
    }
}

/// What the server asks for, in seconds; dates are not used by catalogs.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds))
}

/// How long to wait after an attempt.
fn pause(attempt: u32, wanted: Option<Duration>) -> Duration {
    let own = PAUSE * 2u32.saturating_pow(attempt.saturating_sub(1));
    wanted.unwrap_or(own).min(LONGEST_PAUSE)
}

async fn body(mut response: Response) -> Result<Bytes, String> {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > ANSWER_BYTES => {
                return Err("the answer is larger than 1 GiB".into());
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body.freeze()),
            Err(error) => return Err(format!("the answer ends early: {}", error::causes(&error.without_url()))),
        }
    }
}
