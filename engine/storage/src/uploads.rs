//! Incomplete multipart uploads: S3 keeps them, invisible but charged, until they are aborted. object_store cannot list
//! them, so this request is made here and signed with object_store's authorizer.

use std::time::Duration;

use object_store::{
    ClientOptions,
    aws::{AmazonS3, AwsAuthorizer},
    client::{HttpConnector, HttpRequest, HttpRequestBody, ReqwestConnector},
    path::Path,
    signer::Signer,
};

use super::{Store, error::object_error, runtime::wait};
use floe_wire::error::{QueryError, Result};

/// An upload that was started and neither completed nor aborted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub path: String,
    pub upload: String,
}

impl Store {
    /// All pending uploads whose object's name starts with `prefix` (text, not a directory). Only S3 can list them:
    /// Google's and Azure's expire, or are removed by a lifecycle rule.
    pub fn pending_uploads(&self, prefix: &str) -> Result<Vec<Pending>> {
        let Some((s3, region)) = self.s3.clone() else { return Ok(Vec::new()) };
        let (prefix, uri) = (prefix.to_owned(), self.uri(prefix));
        wait(async move { list_all(&s3, &region, &prefix).await })?
            .map_err(|error| QueryError { message: format!("{uri}: {}", error.message), ..error })
    }
}

async fn list_all(s3: &AmazonS3, region: &str, prefix: &str) -> Result<Vec<Pending>> {
    let mut found = Vec::new();
    let mut marker: Option<(String, String)> = None;
    loop {
        let page = list_page(s3, region, prefix, marker.as_ref()).await?;
        found.extend(page.uploads);
        match page.next {
            Some(next) if marker.as_ref() != Some(&next) => marker = Some(next),
            _ => return Ok(found),
        }
    }
}

struct Page {
    uploads: Vec<Pending>,
    next: Option<(String, String)>,
}

async fn list_page(s3: &AmazonS3, region: &str, prefix: &str, after: Option<&(String, String)>) -> Result<Page> {
    let failed = |error: object_store::Error| object_error("list of uploads", &error);
    // The client does not expose the bucket's own address, but every signed URL begins with it.
    const PROBE: &str = "floe-probe";
    let mut url = s3
        .signed_url("GET".parse().map_err(|_| QueryError::internal("GET is a method"))?, &Path::from(PROBE), MINUTE)
        .await
        .map_err(failed)?;
    let path = url.path().strip_suffix(PROBE).unwrap_or("/").to_owned();
    url.set_path(&path);
    url.set_query(None);
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("uploads", "").append_pair("prefix", prefix);
        if let Some((key, upload)) = after {
            query.append_pair("key-marker", key).append_pair("upload-id-marker", upload);
        }
    }
    let mut request = HttpRequest::new(HttpRequestBody::empty());
    *request.uri_mut() = url.as_str().parse().map_err(|_| QueryError::internal("the address of a bucket is no URI"))?;
    let credential = s3.credentials().get_credential().await.map_err(failed)?;
    AwsAuthorizer::new(&credential, "s3", region).authorize(&mut request, None);
    let client = ReqwestConnector::default()
        .connect(&ClientOptions::new().with_allow_http(true).with_timeout(MINUTE))
        .map_err(failed)?;
    let io = |what: &str| QueryError::io(format!("cannot list uploads: {what}"));
    let response = client.execute(request).await.map_err(|error| io(&format!("{:?}", error.kind())))?;
    let status = response.status().as_u16();
    let body = response.into_body().bytes().await.map_err(|error| io(&format!("{:?}", error.kind())))?;
    match status {
        200 => Ok(parse(&String::from_utf8_lossy(&body))),
        401 | 403 => Err(QueryError::user("PermissionError", "access denied: cannot list uploads")),
        404 => Ok(Page { uploads: Vec::new(), next: None }),
        _ => Err(io(&format!("HTTP {status}"))),
    }
}

const MINUTE: Duration = Duration::from_secs(60);

fn parse(xml: &str) -> Page {
    let uploads = xml
        .split("<Upload>")
        .skip(1)
        .filter_map(|part| {
            let part = part.split("</Upload>").next()?;
            Some(Pending { path: element(part, "Key")?, upload: element(part, "UploadId")? })
        })
        .collect();
    let more = element(xml, "IsTruncated").is_some_and(|text| text == "true");
    let next = element(xml, "NextKeyMarker").zip(element(xml, "NextUploadIdMarker")).filter(|_| more);
    Page { uploads, next }
}

fn element(xml: &str, name: &str) -> Option<String> {
    let from = xml.find(&format!("<{name}>"))? + name.len() + 2;
    let to = from + xml[from..].find(&format!("</{name}>"))?;
    Some(unescape(&xml[from..to]))
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(end) = rest.find(';') else { break };
        let entity = &rest[1..end];
        let character = match entity {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => {
                let code = entity.strip_prefix('#').and_then(|n| match n.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok(),
                    None => n.parse().ok(),
                });
                code.and_then(char::from_u32)
            }
        };
        match character {
            Some(character) => out.push(character),
            None => out.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_read() {
        let page = parse(
            "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>a&amp;b</NextKeyMarker>\
             <NextUploadIdMarker>u2</NextUploadIdMarker><Upload><Key>out/k=1/part-a&#38;b</Key><UploadId>u1</UploadId>\
             </Upload><Upload><Key>a&amp;b</Key><UploadId>u2</UploadId></Upload></ListMultipartUploadsResult>",
        );
        assert_eq!(page.uploads.len(), 2);
        assert_eq!(page.uploads[0], Pending { path: "out/k=1/part-a&b".into(), upload: "u1".into() });
        assert_eq!(page.next, Some(("a&b".into(), "u2".into())));
        assert!(parse("<IsTruncated>false</IsTruncated><NextKeyMarker>x</NextKeyMarker>").next.is_none());
    }
}
