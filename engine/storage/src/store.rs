//! One bucket or container of an object store.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{
    ClientConfigKey, ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    client::{HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector},
    gcp::{GoogleCloudStorageBuilder, GoogleConfigKey},
    list::{PaginatedListOptions, PaginatedListStore},
    multipart::{MultipartStore, PartId},
    path::Path,
};

use super::{Options, conditional::Conditions, display_uri, error::object_error, runtime::wait};
use floe_wire::error::{QueryError, Result};

/// A stored file. `path` is the object's name in its bucket, or a local path.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Entry {
    pub path: String,
    pub size: u64,
    pub modified_ms: u64,
}

#[derive(Clone)]
pub struct Store {
    pub(super) root: String,
    pub(super) objects: Arc<dyn ObjectStore>,
    multipart: Arc<dyn MultipartStore>,
    pages: Arc<dyn PaginatedListStore>,
    /// Only S3 can list incomplete uploads.
    pub(super) s3: Option<(Arc<AmazonS3>, String)>,
    pub(super) conditions: Arc<Conditions>,
}

impl Store {
    /// `root` is scheme and bucket, as in `Location`. Clients are cached, with their connections.
    pub fn open(root: &str, options: &Options) -> Result<Store> {
        type Cache = Mutex<HashMap<(String, Options), Store>>;
        static CACHE: OnceLock<Cache> = OnceLock::new();
        const CACHE_LIMIT: usize = 64;

        let cache = CACHE.get_or_init(Default::default);
        let key = (root.to_owned(), options.clone());
        if let Some(store) = cache.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(store.clone());
        }
        let store = build(root, options)?;
        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= CACHE_LIMIT {
            cache.clear();
        }
        cache.insert(key, store.clone());
        Ok(store)
    }

    pub fn root(&self) -> &str {
        &self.root
    }

    pub(super) fn uri(&self, path: &str) -> String {
        if path.is_empty() { self.root.clone() } else { format!("{}/{path}", self.root) }
    }

    pub(super) fn key(&self, path: &str) -> Result<Path> {
        Path::parse(path).map_err(|error| QueryError::user("BadUri", format!("{}: {error}", self.uri(path))))
    }

    /// Runs one request: the closure gets the client and the object's name.
    pub(super) fn request<T, F>(&self, path: &str, make: impl FnOnce(Arc<dyn ObjectStore>, Path) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let future = make(self.objects.clone(), self.key(path)?);
        wait(future)?.map_err(|error| object_error(&self.uri(path), &error))
    }

    pub fn read(&self, path: &str) -> Result<Bytes> {
        self.request(path, |store, key| async move { store.get(&key).await?.bytes().await })
    }

    /// Reads a range of an object.
    pub fn read_range(&self, path: &str, range: std::ops::Range<u64>) -> Result<Bytes> {
        self.request(path, |store, key| async move { store.get_range(&key, range).await })
    }

    pub fn put(&self, path: &str, data: Bytes) -> Result<()> {
        self.request(path, |store, key| async move { store.put(&key, PutPayload::from(data)).await.map(drop) })
    }

    /// Size and time of an object, if it exists.
    pub fn head(&self, path: &str) -> Result<Option<Entry>> {
        self.request(path, |store, key| async move {
            match store.head(&key).await {
                Ok(meta) => Ok(Some(entry(meta))),
                Err(object_store::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// Objects under a prefix (`a/b` includes `a/b/c`, not `a/bc`), by name.
    pub fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = self.request(prefix, |store, key| async move {
            let prefix = (!key.as_ref().is_empty()).then_some(&key);
            store.list(prefix).map_ok(entry).try_collect().await
        })?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Objects whose names start with this text, by name.
    pub fn list_text(&self, prefix: &str) -> Result<Vec<Entry>> {
        let (pages, uri, prefix) = (self.pages.clone(), self.uri(prefix), prefix.to_owned());
        let all = wait(async move {
            let mut entries = Vec::new();
            let mut page_token = None;
            loop {
                let options = PaginatedListOptions { page_token, ..PaginatedListOptions::default() };
                let page = pages.list_paginated((!prefix.is_empty()).then_some(prefix.as_str()), options).await?;
                entries.extend(page.result.objects.into_iter().map(entry));
                page_token = page.page_token;
                if page_token.is_none() {
                    return Ok::<_, object_store::Error>(entries);
                }
            }
        })?;
        let mut entries = all.map_err(|error| object_error(&uri, &error))?;
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Deletes an object. No error if it does not exist.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.request(path, |store, key| async move {
            match store.delete(&key).await {
                Err(object_store::Error::NotFound { .. }) => Ok(()),
                other => other,
            }
        })
    }

    pub fn start_upload(&self, path: &str) -> Result<String> {
        let (multipart, key) = (self.multipart.clone(), self.key(path)?);
        wait(async move { multipart.create_multipart(&key).await })?
            .map_err(|error| object_error(&self.uri(path), &error))
    }

    /// Sends one part on a thread of the runtime; `done` receives the result.
    pub fn send_part(
        &self,
        path: &str,
        upload: &str,
        index: usize,
        data: Bytes,
        done: impl FnOnce(Result<String>) + Send + 'static,
    ) -> Result<()> {
        let (multipart, key) = (self.multipart.clone(), self.key(path)?);
        let (upload, uri) = (upload.to_owned(), self.uri(path));
        super::runtime::runtime()?.spawn(async move {
            let sent = multipart.put_part(&key, &upload, index, PutPayload::from(data)).await;
            done(sent.map(|part| part.content_id).map_err(|error| object_error(&uri, &error)));
        });
        Ok(())
    }

    /// Sends one part and waits for it.
    pub fn put_part(&self, path: &str, upload: &str, index: usize, data: Bytes) -> Result<String> {
        let (multipart, key, upload) = (self.multipart.clone(), self.key(path)?, upload.to_owned());
        wait(async move { multipart.put_part(&key, &upload, index, PutPayload::from(data)).await })?
            .map(|part| part.content_id)
            .map_err(|error| object_error(&self.uri(path), &error))
    }

    /// Completes an upload, which makes the object visible. `Ok(false)` if the store does not know the upload: it was
    /// completed or aborted before.
    pub fn complete_upload(&self, path: &str, upload: &str, parts: &[String]) -> Result<bool> {
        let (multipart, key, upload) = (self.multipart.clone(), self.key(path)?, upload.to_owned());
        let parts = parts.iter().map(|id| PartId { content_id: id.clone() }).collect();
        match wait(async move { multipart.complete_multipart(&key, &upload, parts).await })? {
            Ok(_) => Ok(true),
            Err(error) if upload_is_gone(&error) => Ok(false),
            Err(error) => Err(object_error(&self.uri(path), &error)),
        }
    }

    /// Aborts an upload. No error if it does not exist.
    pub fn abort_upload(&self, path: &str, upload: &str) -> Result<()> {
        let (multipart, key, upload) = (self.multipart.clone(), self.key(path)?, upload.to_owned());
        match wait(async move { multipart.abort_multipart(&key, &upload).await })? {
            Ok(()) => Ok(()),
            Err(error) if upload_is_gone(&error) => Ok(()),
            Err(error) => Err(object_error(&self.uri(path), &error)),
        }
    }
}

fn upload_is_gone(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::NotFound { .. }) || {
        let text = format!("{error:?}");
        text.contains("NoSuchUpload") || text.contains("InvalidBlockList")
    }
}

fn entry(meta: object_store::ObjectMeta) -> Entry {
    Entry {
        path: meta.location.to_string(),
        size: meta.size,
        modified_ms: u64::try_from(meta.last_modified.timestamp_millis()).unwrap_or(0),
    }
}

pub(super) fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Ignores keys of other providers: one set of options can serve several.
fn known<K: std::str::FromStr>(options: &Options) -> Vec<(K, String)> {
    options.pairs().filter_map(|(key, value)| Some((key.parse().ok()?, value.to_owned()))).collect()
}

fn client_options(options: &Options) -> ClientOptions {
    let base = ClientOptions::new()
        .with_allow_http(true)
        .with_connect_timeout(Duration::from_secs(20))
        .with_timeout(Duration::from_secs(300));
    known::<ClientConfigKey>(options).into_iter().fold(base, |client, (key, value)| client.with_config(key, value))
}

fn build(root: &str, options: &Options) -> Result<Store> {
    let retry = RetryConfig { max_retries: 6, retry_timeout: Duration::from_secs(120), ..RetryConfig::default() };
    let failed = |error: object_store::Error| match object_error(root, &error) {
        error if error.class == "IOError" => QueryError::user("BadStorage", error.message),
        error => error,
    };
    let client = client_options(options);
    let scheme = root.split("://").next().unwrap_or_default();
    type Clients =
        (Arc<dyn ObjectStore>, Arc<dyn MultipartStore>, Arc<dyn PaginatedListStore>, Option<(Arc<AmazonS3>, String)>);
    let (objects, multipart, pages, s3): Clients = match scheme {
        "s3" | "s3a" => {
            let (store, region) = build_s3(root, options, client, retry).map_err(failed)?;
            let store = Arc::new(store);
            (store.clone(), store.clone(), store.clone(), Some((store, region)))
        }
        "gs" | "gcs" => {
            let url = root.replacen("gcs://", "gs://", 1);
            let builder =
                GoogleCloudStorageBuilder::from_env().with_client_options(client).with_url(url).with_retry(retry);
            let builder = known::<GoogleConfigKey>(options).into_iter().fold(builder, |b, (k, v)| b.with_config(k, v));
            let store = Arc::new(builder.build().map_err(failed)?);
            (store.clone(), store.clone(), store, None)
        }
        _ => {
            let builder =
                MicrosoftAzureBuilder::from_env().with_client_options(client).with_url(root).with_retry(retry);
            let builder = known::<AzureConfigKey>(options).into_iter().fold(builder, |b, (k, v)| b.with_config(k, v));
            let store = Arc::new(builder.build().map_err(failed)?);
            (store.clone(), store.clone(), store, None)
        }
    };
    Ok(Store { root: root.to_owned(), objects, multipart, pages, s3, conditions: Arc::default() })
}

/// The region and keys come from, in this order: options, environment, profile files. The region then comes from the
/// bucket itself; endpoints other than Amazon's get a fixed one, which they ignore.
fn build_s3(
    root: &str,
    options: &Options,
    client: ClientOptions,
    retry: RetryConfig,
) -> object_store::Result<(AmazonS3, String)> {
    let mut builder = AmazonS3Builder::from_env().with_client_options(client.clone()).with_url(root).with_retry(retry);
    for (key, value) in known::<AmazonS3ConfigKey>(options) {
        builder = builder.with_config(key, value);
    }
    let missing =
        |builder: &AmazonS3Builder, key: AmazonS3ConfigKey| builder.get_config_value(&key).is_none_or(|v| v.is_empty());
    let anonymous = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).is_some_and(|v| v == "true");
    let keys_missing = missing(&builder, AmazonS3ConfigKey::AccessKeyId);
    if missing(&builder, AmazonS3ConfigKey::Region) || (keys_missing && !anonymous) {
        let profile = super::aws_profile::read();
        let take = |builder: AmazonS3Builder, key: AmazonS3ConfigKey, name: &str| match profile.get(name) {
            Some(value) => builder.with_config(key, value),
            None => builder,
        };
        if missing(&builder, AmazonS3ConfigKey::Region) {
            builder = take(builder, AmazonS3ConfigKey::Region, "region");
        }
        if keys_missing && !anonymous {
            builder = take(builder, AmazonS3ConfigKey::AccessKeyId, "aws_access_key_id");
            builder = take(builder, AmazonS3ConfigKey::SecretAccessKey, "aws_secret_access_key");
            builder = take(builder, AmazonS3ConfigKey::Token, "aws_session_token");
        }
    }
    if missing(&builder, AmazonS3ConfigKey::Region) && missing(&builder, AmazonS3ConfigKey::DefaultRegion) {
        let region = if missing(&builder, AmazonS3ConfigKey::Endpoint) {
            let bucket = root.split("://").nth(1).unwrap_or_default().to_owned();
            let found = wait(async move { object_store::aws::resolve_bucket_region(&bucket, &client).await });
            found.ok().and_then(|region| region.ok())
        } else {
            None
        };
        builder = builder.with_config(AmazonS3ConfigKey::Region, region.unwrap_or_else(|| "us-east-1".to_owned()));
    }
    let region = builder
        .get_config_value(&AmazonS3ConfigKey::Region)
        .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::DefaultRegion))
        .unwrap_or_else(|| "us-east-1".to_owned());
    // Do not hash large parts a second time: TLS and ETags protect them.
    Ok((builder.with_unsigned_payload(true).build()?, region))
}

/// GETs a whole URL, including its query.
pub(super) fn read_http(url: &str) -> Result<Bytes> {
    let shown = display_uri(url);
    let parsed = url.parse().map_err(|_| QueryError::user("BadUri", format!("{shown}: not a URL")))?;
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.uri_mut() = parsed;
    let failed = |error: object_store::client::HttpError| QueryError::io(format!("cannot read it: {:?}", error.kind()));
    let answer = wait(async move {
        let client = ReqwestConnector::default()
            .connect(&client_options(&Options::default()))
            .map_err(|error| QueryError::io(error.to_string()))?;
        let response = client.execute(request).await.map_err(failed)?;
        let status = response.status().as_u16();
        let body = response.into_body().bytes().await.map_err(failed)?;
        Ok::<_, QueryError>((status, body))
    })?;
    let (status, body) = answer.map_err(|error| QueryError { message: format!("{shown}: {error}"), ..error })?;
    match status {
        200..=299 => Ok(body),
        404 | 410 => Err(QueryError::user("FileNotFoundError", format!("{shown}: no such file (HTTP {status})"))),
        401 | 403 => Err(QueryError::user("PermissionError", format!("{shown}: access denied (HTTP {status})"))),
        400..=499 => Err(QueryError::user("OSError", format!("{shown}: refused (HTTP {status})"))),
        _ => Err(QueryError::io(format!("{shown}: HTTP {status}"))),
    }
}
