//! Asks the cluster who a token belongs to and what its user may do (TokenReview, SubjectAccessReview). Answers are
//! cached for seconds: a revoked token or right stops working after that. Failed requests are never cached.

use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::auth::{Allowed, Question, User, allows, decide, identify};
use super::cache::Cache;
use super::problem::{Kind, Problem};

const TOKEN_TTL: Duration = Duration::from_secs(20);
const ALLOWED_TTL: Duration = Duration::from_secs(10);
/// Cache refusals only briefly: a Role may just have been created.
const REFUSED_TTL: Duration = Duration::from_secs(3);
const MAX_TOKENS: usize = 4096;
const MAX_ANSWERS: usize = 8192;
const AT_ONCE: usize = 32;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Tokens are cached as digests only.
type Digested = [u8; 32];

pub struct Reviews {
    client: Client,
    audiences: Vec<String>,
    tokens: Cache<Digested, Result<User, Problem>>,
    answers: Cache<Question, bool>,
    slots: Semaphore,
}

impl Reviews {
    pub fn new(client: Client, audiences: Vec<String>) -> Self {
        Reviews {
            client,
            audiences,
            tokens: Cache::new(MAX_TOKENS),
            answers: Cache::new(MAX_ANSWERS),
            slots: Semaphore::new(AT_ONCE),
        }
    }

    /// What is known of a token without asking the cluster.
    pub fn remembered(&self, token: &str) -> Option<Result<User, Problem>> {
        self.tokens.get(&digest(token), Instant::now())
    }

    pub async fn who(&self, token: &str) -> Result<User, Problem> {
        let spec = TokenReviewSpec {
            token: Some(token.to_owned()),
            audiences: (!self.audiences.is_empty()).then(|| self.audiences.clone()),
        };
        let review = TokenReview { spec, ..TokenReview::default() };
        let told = self.ask(&review).await?;
        let user = identify(told.status.as_ref(), &self.audiences);
        let lasts = if user.is_ok() { TOKEN_TTL } else { REFUSED_TTL };
        self.tokens.put(digest(token), user.clone(), lasts, Instant::now());
        user
    }

    pub async fn may(&self, question: Question) -> Result<Allowed, Problem> {
        if let Some(allowed) = self.answers.get(&question, Instant::now()) {
            return decide(question, allowed);
        }
        let told: SubjectAccessReview = self.ask(&question.review()).await?;
        let allowed = allows(told.status.as_ref());
        let lasts = if allowed { ALLOWED_TTL } else { REFUSED_TTL };
        self.answers.put(question.clone(), allowed, lasts, Instant::now());
        decide(question, allowed)
    }

    async fn ask<K>(&self, review: &K) -> Result<K, Problem>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>,
        K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let away = |why: String| {
            tracing::warn!("who a caller is and may do cannot be asked: {why}");
            Problem::new(Kind::Unavailable, "the cluster cannot be asked who the caller is and what they may do")
        };
        let _slot = self.slots.acquire().await.map_err(|error| away(error.to_string()))?;
        match tokio::time::timeout(ANSWER_TIMEOUT, api.create(&PostParams::default(), review)).await {
            Ok(Ok(told)) => Ok(told),
            Ok(Err(error)) => Err(away(error.to_string())),
            Err(_) => Err(away("no answer in time".to_owned())),
        }
    }
}

fn digest(token: &str) -> Digested {
    Sha256::digest(token.as_bytes()).into()
}
