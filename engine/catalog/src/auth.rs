//! What a request shows to be let in: a bearer token, given or asked for with client credentials, or user and password.

use std::time::{Duration, Instant};

use base64::Engine as _;
use floe_api::Secret;
use floe_wire::error::{QueryError, Result};
use reqwest_tls::Url;
use serde::Deserialize;

use crate::options::{CatalogOptions, Properties};

/// Ask for a new token this long before the old one expires, or when nine tenths of its time are over.
const MARGIN: Duration = Duration::from_secs(60);

/// What was given to be let in.
#[derive(Debug)]
pub enum Credentials {
    None,
    Token(Secret),
    Basic(Secret),
    Client {
        /// A token to begin with.
        token: Option<Secret>,
        client: ClientCredentials,
    },
}

/// OAuth2's `client_credentials`.
#[derive(Clone, Debug)]
pub struct ClientCredentials {
    pub url: Url,
    pub id: Option<Secret>,
    pub secret: Secret,
    pub scope: String,
    /// `audience` and `resource`.
    pub more: Vec<(&'static str, Secret)>,
}

/// A token in use.
#[derive(Clone, Debug)]
pub struct Token {
    pub value: Secret,
    pub renew_at: Option<Instant>,
    /// Increases with every token, so that of several requests that are refused only one renews it.
    pub number: u64,
}

impl Token {
    pub fn is_due(&self, now: Instant) -> bool {
        self.renew_at.is_some_and(|at| at <= now)
    }
}

/// The answer of an OAuth2 server.
#[derive(Deserialize)]
pub struct Granted {
    pub access_token: Secret,
    #[serde(default)]
    pub expires_in: Option<f64>,
}

impl Granted {
    pub fn into_token(self, now: Instant, number: u64) -> Token {
        let lasts = self.expires_in.filter(|seconds| seconds.is_finite() && *seconds > 0.0);
        let lasts = lasts.map(|seconds| Duration::from_secs_f64(seconds.min(1e9)));
        let renew_at = lasts.map(|lasts| now + lasts.saturating_sub(MARGIN).max(lasts.mul_f64(0.9)).min(lasts));
        Token { value: self.access_token, renew_at, number }
    }
}

impl Credentials {
    pub fn of(options: &CatalogOptions, base: &Url) -> Result<Self> {
        let properties = &options.properties;
        let get = |key: &str| properties.get(key).filter(|value| !value.reveal().is_empty());
        let bad = |message: String| QueryError::user("BadCatalog", format!("catalog {}: {message}", options.name));
        if kind(properties).as_deref() == Some("none") {
            return Ok(Credentials::None);
        }
        if kind(properties).as_deref() == Some("basic") {
            let (Some(user), Some(password)) = (get("rest.auth.basic.username"), get("rest.auth.basic.password"))
            else {
                let message =
                    "rest.auth.type is basic, and rest.auth.basic.username or rest.auth.basic.password is missing";
                return Err(bad(message.into()));
            };
            let pair = format!("{}:{}", user.reveal(), password.reveal());
            return Ok(Credentials::Basic(base64::engine::general_purpose::STANDARD.encode(pair).into()));
        }
        let token = get("token").cloned();
        let Some(credential) = get("credential") else {
            return Ok(token.map_or(Credentials::None, Credentials::Token));
        };
        let (id, secret) = match credential.reveal().split_once(':') {
            Some((id, secret)) => (Some(Secret::from(id)), secret),
            None => (None, credential.reveal()),
        };
        let url = match get("oauth2-server-uri") {
            Some(given) => {
                let url = Url::parse(given.reveal()).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
                url.ok_or_else(|| bad("oauth2-server-uri is no address: write https://…".into()))?
            }
            None => Url::parse(&format!("{}/v1/oauth/tokens", base.as_str().trim_end_matches('/')))
                .map_err(|_| bad("its uri is no address".into()))?,
        };
        let scope = get("scope").map_or("catalog", Secret::reveal).to_owned();
        let more = ["audience", "resource"].into_iter().filter_map(|key| Some((key, get(key)?.clone()))).collect();
        let client = ClientCredentials { url, id, secret: secret.into(), scope, more };
        Ok(Credentials::Client { token, client })
    }

    /// For messages: what was shown, or what to give.
    pub fn described(&self) -> &'static str {
        match self {
            Credentials::None => {
                "no credentials were given: put credential (client_id:client_secret) or token into the Secret that secretRef names"
            }
            Credentials::Token(_) => "it was asked with the bearer token (token)",
            Credentials::Basic(_) => "it was asked with user and password (rest.auth.basic.username)",
            Credentials::Client { .. } => "it was asked with a token of the client credentials (credential)",
        }
    }
}

fn kind(properties: &Properties) -> Option<String> {
    properties.get("rest.auth.type").map(|kind| kind.reveal().to_ascii_lowercase())
}

impl ClientCredentials {
    pub fn form(&self) -> Vec<(&'static str, &str)> {
        let mut form = vec![("grant_type", "client_credentials")];
        if let Some(id) = &self.id {
            form.push(("client_id", id.reveal()));
        }
        form.push(("client_secret", self.secret.reveal()));
        if !self.scope.is_empty() {
            form.push(("scope", &self.scope));
        }
        form.extend(self.more.iter().map(|(key, value)| (*key, value.reveal())));
        form
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_expires() {
        let now = Instant::now();
        let renewed = |expires_in: Option<f64>| {
            let token = Granted { access_token: "t".into(), expires_in }.into_token(now, 1);
            token.renew_at.map(|at| (at - now).as_secs())
        };
        assert_eq!(renewed(Some(3600.0)), Some(3540));
        assert_eq!(renewed(Some(10.0)), Some(9));
        assert_eq!(renewed(None), None);
        assert_eq!(renewed(Some(-1.0)), None);
        assert_eq!(renewed(Some(f64::NAN)), None);
    }

    #[test]
    fn credentials_come_from_properties() {
        let of = |properties: &[(&str, &str)]| {
            let properties = properties.iter().map(|(k, v)| ((*k).to_owned(), Secret::from(*v))).collect();
            let options =
                CatalogOptions { name: "lake".into(), uri: "http://c/api/".into(), warehouse: None, properties };
            Credentials::of(&options, &options.base().unwrap())
        };
        let Ok(Credentials::Client { token: None, client }) = of(&[("credential", "me:a:b"), ("audience", "x")]) else {
            panic!("client credentials");
        };
        assert_eq!(client.url.as_str(), "http://c/api/v1/oauth/tokens");
        let form = client.form();
        let want = [
            ("grant_type", "client_credentials"),
            ("client_id", "me"),
            ("client_secret", "a:b"),
            ("scope", "catalog"),
            ("audience", "x"),
        ];
        assert_eq!(form, want);
        assert!(matches!(of(&[("token", "t")]), Ok(Credentials::Token(_))));
        assert!(matches!(of(&[("token", "t"), ("rest.auth.type", "none")]), Ok(Credentials::None)));
        let basic = [("rest.auth.type", "basic"), ("rest.auth.basic.username", "u"), ("rest.auth.basic.password", "p")];
        assert!(matches!(of(&basic), Ok(Credentials::Basic(pair)) if pair.reveal() == "dTpw"));
        assert!(of(&basic[..2]).unwrap_err().message.contains("rest.auth.basic.password is missing"));
        assert!(of(&[("credential", "a:b"), ("oauth2-server-uri", "idp")]).is_err());
    }
}
