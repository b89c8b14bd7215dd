//! Merges the query's storage options over those that a plan carries for one scan or sink: option by option, but with
//! the credentials of only one of the two.
//!
//! Works on the document before Polars decodes it. Both sides use the names of Polars' enums there, so aliases that
//! users may write (`region`, `aws_region`) are one option.

use super::msgpack::{self, Node};
use floe_wire::error::{QueryError, Result};

/// Options of S3, Azure and Google that are credentials, or that turn credentials off.
const IDENTITY: &[&str] = &[
    "SkipSignature",
    // S3
    "AccessKeyId",
    "SecretAccessKey",
    "Token",
    "ContainerAuthorizationTokenFile",
    "ContainerCredentialsFullUri",
    "ContainerCredentialsRelativeUri",
    "ImdsV1Fallback",
    "MetadataEndpoint",
    "RoleArn",
    "RoleSessionName",
    "StsEndpoint",
    "WebIdentityTokenFile",
    // Azure. The account name is part of the location, not a credential.
    "AccessKey",
    "AuthorityHost",
    "AuthorityId",
    "ClientId",
    "ClientSecret",
    "FabricClusterIdentifier",
    "FabricSessionToken",
    "FabricTokenServiceUrl",
    "FabricWorkloadHost",
    "FederatedTokenFile",
    "MsiEndpoint",
    "MsiResourceId",
    "ObjectId",
    "SasKey",
    "UseAzureCli",
    // Google
    "ApplicationCredentials",
    "ServiceAccount",
    "ServiceAccountKey",
    // HTTP
    "Authorization",
];

/// Puts the options in `own` (an encoded `CloudOptions`) over those of the plan. Returns whether `own` has credentials;
/// if it has, all credentials of the plan are dropped.
pub fn put_over(plan: &mut Node<'_>, own: &[u8]) -> Result<bool> {
    let own = msgpack::parse(own).map_err(|e| QueryError::internal(format!("storage options are damaged: {e}")))?;
    let Some((kind, content)) = own.get("config").and_then(Node::variant) else { return Ok(false) };
    let own = pairs(content).unwrap_or_default();
    let identified = own.iter().any(gives_identity);
    if let Some((theirs, content)) = plan.get_mut("config").and_then(entry_mut)
        && theirs.as_str() == Some(kind)
        && let Some(kept) = pairs_mut(content)
    {
        kept.retain(|pair| {
            let name = option(pair);
            !(identified && is_identity(&name)) && !own.iter().any(|pair| option(pair).eq_ignore_ascii_case(&name))
        });
        kept.extend(own.iter().map(owned));
    } else {
        plan.set("config", Node::map([(kind, owned(content))]));
    }
    Ok(identified)
}

/// The options for one kind of store: a list of pairs, or a list of headers inside a struct.
fn pairs<'n, 'a>(content: &'n Node<'a>) -> Option<&'n [Node<'a>]> {
    content.as_seq().or_else(|| content.variant()?.1.as_seq())
}

fn pairs_mut<'n, 'a>(content: &'n mut Node<'a>) -> Option<&'n mut Vec<Node<'a>>> {
    let list = if content.as_seq().is_some() { content } else { content.variant_mut()? };
    match list {
        Node::Seq(pairs) => Some(pairs),
        _ => None,
    }
}

fn entry_mut<'n, 'a>(node: &'n mut Node<'a>) -> Option<(&'n Node<'a>, &'n mut Node<'a>)> {
    match node {
        Node::Map(entries) => match entries.as_mut_slice() {
            [(name, content)] => Some((&*name, content)),
            _ => None,
        },
        _ => None,
    }
}

/// The option that a pair sets. Aliases count as one option: Polars would prefer the more specific one, whichever side
/// set it.
fn option(pair: &Node<'_>) -> String {
    let Some([name, _]) = pair.as_seq() else { return String::new() };
    match name.as_str() {
        Some("DefaultRegion") => "Region".to_owned(),
        Some("S3Endpoint" | "UseEmulator" | "UseFabricEndpoint") => "Endpoint".to_owned(),
        Some(name) => name.to_owned(),
        // `Client(AllowHttp)`
        None => name
            .variant()
            .map_or_else(String::new, |(kind, inner)| format!("{kind}.{}", inner.as_str().unwrap_or_default())),
    }
}

fn is_identity(name: &str) -> bool {
    IDENTITY.iter().any(|one| one.eq_ignore_ascii_case(name))
}

/// A flag that is off is no credential.
fn gives_identity(pair: &Node<'_>) -> bool {
    let off = |value: &str| ["false", "0", "off", "no", "n"].iter().any(|no| no.eq_ignore_ascii_case(value));
    let value = pair.as_seq().and_then(|pair| pair.get(1)).and_then(Node::as_str).unwrap_or_default();
    is_identity(&option(pair)) && !off(value)
}

fn owned<'a>(node: &Node<'_>) -> Node<'a> {
    let mut bytes = Vec::new();
    node.write(&mut bytes);
    Node::Owned(bytes)
}

#[cfg(test)]
mod tests {
    use polars_io::cloud::{CloudConfig, CloudOptions};
    use polars_utils::pl_path::CloudScheme;

    use super::*;

    const KEYS: [(&str, &str); 2] = [("aws_access_key_id", "QUERY-KEY"), ("aws_secret_access_key", "QUERY-SECRET")];

    fn options(uri: &str, pairs: &[(&str, &str)]) -> CloudOptions {
        CloudOptions::from_untyped_config(CloudScheme::from_path(uri), pairs.iter().copied()).unwrap()
    }

    /// Merges the plan's options under the query's, and returns them by their user-facing names.
    fn merged(uri: &str, plan: &[(&str, &str)], query: &[(&str, &str)]) -> (bool, Vec<(String, String)>) {
        let encode = |pairs| rmp_serde::to_vec_named(&options(uri, pairs)).unwrap();
        let plan = encode(plan);
        let mut tree = msgpack::parse(&plan).unwrap();
        let identified = put_over(&mut tree, &encode(query)).unwrap();
        let mut bytes = vec![];
        tree.write(&mut bytes);
        let options: CloudOptions = rmp_serde::from_slice(&bytes).unwrap();
        fn texts<K: AsRef<str>>(pairs: &[(K, String)]) -> Vec<(String, String)> {
            let mut texts: Vec<_> = pairs.iter().map(|(k, v)| (k.as_ref().to_owned(), v.clone())).collect();
            texts.sort();
            texts
        }
        let texts = match options.config.unwrap() {
            CloudConfig::Aws(pairs) => texts(&pairs),
            CloudConfig::Azure(pairs) => texts(&pairs),
            CloudConfig::Gcp(pairs) => texts(&pairs),
            other => panic!("{other:?}"),
        };
        (identified, texts)
    }

    fn s3(plan: &[(&str, &str)], query: &[(&str, &str)]) -> (bool, Vec<(String, String)>) {
        merged("s3://b/x", plan, query)
    }

    fn list(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_query_wins_option_by_option_and_the_plans_others_stay() {
        let plan = [
            ("aws_request_payer", "true"),
            ("endpoint_url", "http://plan"),
            ("region", "plan"),
            ("aws_virtual_hosted_style_request", "false"),
            ("allow_http", "true"),
            ("timeout", "9s"),
        ];
        let (identified, got) = s3(&plan, &[("aws_region", "query"), ("timeout", "1s"), KEYS[0], KEYS[1]]);
        assert!(identified);
        let want = [
            ("allow_http", "true"),
            KEYS[0],
            ("aws_endpoint", "http://plan"),
            ("aws_region", "query"),
            ("aws_request_payer", "true"),
            KEYS[1],
            ("aws_virtual_hosted_style_request", "false"),
            ("timeout", "1s"),
        ];
        assert_eq!(got, list(&want));
    }

    #[test]
    fn a_special_form_of_an_option_does_not_win_over_the_querys() {
        // Polars prefers the S3-specific endpoint to the general one, and a region to the default region.
        let plan = [("aws_endpoint_url_s3", "http://plan"), ("aws_region", "plan")];
        let query = [("aws_endpoint", "http://query"), ("aws_default_region", "query")];
        assert_eq!(s3(&plan, &query), (false, list(&[query[1], query[0]])));
        let (_, got) = merged("az://c/x", &[("use_emulator", "true")], &[("azure_storage_endpoint", "http://query")]);
        assert_eq!(got, list(&[("azure_storage_endpoint", "http://query")]));
    }

    #[test]
    fn credentials_are_those_of_one_source() {
        let plan = [
            ("aws_access_key_id", "PLAN"),
            ("aws_secret_access_key", "PLAN"),
            ("aws_session_token", "PLAN"),
            ("aws_region", "plan"),
        ];
        let region = ("aws_region", "plan");
        assert_eq!(s3(&plan, &KEYS), (true, list(&[KEYS[0], region, KEYS[1]])));
        // Half a key pair in the query must not be completed with the plan's other half.
        assert_eq!(s3(&plan, &KEYS[..1]), (true, list(&[KEYS[0], region])));
        assert_eq!(s3(&[("skip_signature", "true")], &KEYS), (true, list(&KEYS)));
        let public = ("aws_skip_signature", "true");
        assert_eq!(s3(&plan, &[public]), (true, list(&[region, public])));
        let role = ("aws_role_arn", "arn:aws:iam::1:role/query");
        assert_eq!(s3(&plan, &[role]), (true, list(&[region, role])));
        // A query without credentials keeps all of the plan's, and so does one that only states that credentials exist.
        let endpoint = ("aws_endpoint", "http://query");
        assert_eq!(s3(&plan[..2], &[endpoint]), (false, list(&[plan[0], endpoint, plan[1]])));
        let signed = ("aws_skip_signature", "false");
        assert_eq!(s3(&plan[..2], &[signed]), (false, list(&[plan[0], plan[1], signed])));
        assert_eq!(s3(&[public], &[signed]), (false, list(&[signed])));
    }

    #[test]
    fn credentials_of_other_stores_are_those_of_one_source_too() {
        let plan = [
            ("azure_storage_account_name", "plan"),
            ("azure_storage_client_id", "PLAN"),
            ("azure_storage_client_secret", "PLAN"),
            ("azure_storage_tenant_id", "PLAN"),
            ("azure_storage_sas_key", "PLAN"),
            ("azure_storage_token", "PLAN"),
        ];
        let key = ("azure_storage_account_key", "QUERY");
        let (identified, got) = merged("abfss://c@plan.dfs.core.windows.net/x", &plan, &[key]);
        assert_eq!((identified, got), (true, list(&[key, plan[0]])));
        let (plan, key) = (("google_service_account", "/plan"), ("google_service_account_key", "{}"));
        let base = ("google_base_url", "http://plan");
        assert_eq!(merged("gs://b/x", &[plan, base], &[key]), (true, list(&[base, key])));
    }

    #[test]
    fn a_plan_without_options_for_this_store_takes_the_querys() {
        assert_eq!(s3(&[], &KEYS), (true, list(&KEYS)));
        let own = rmp_serde::to_vec_named(&options("s3://b/x", &KEYS)).unwrap();
        for plan in [CloudOptions::default(), options("az://c/x", &[("account_key", "PLAN")])] {
            let plan = rmp_serde::to_vec_named(&plan).unwrap();
            let mut tree = msgpack::parse(&plan).unwrap();
            assert!(put_over(&mut tree, &own).unwrap());
            let mut bytes = vec![];
            tree.write(&mut bytes);
            let text = String::from_utf8_lossy(&bytes);
            assert!(text.contains("QUERY-SECRET") && !text.contains("PLAN"), "{text}");
        }
    }

    #[test]
    fn headers_of_http_are_options_as_well() {
        let headers = |pairs: &[(&str, &str)]| {
            let headers = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let mut options = options("https://h/x", &[]);
            options.config = Some(CloudConfig::Http { headers });
            rmp_serde::to_vec_named(&options).unwrap()
        };
        let plan = headers(&[("authorization", "Bearer PLAN"), ("x-plan", "1")]);
        let mut tree = msgpack::parse(&plan).unwrap();
        assert!(put_over(&mut tree, &headers(&[("Authorization", "Bearer QUERY")])).unwrap());
        let mut bytes = vec![];
        tree.write(&mut bytes);
        let got: CloudOptions = rmp_serde::from_slice(&bytes).unwrap();
        let want = [("x-plan".to_owned(), "1".to_owned()), ("Authorization".to_owned(), "Bearer QUERY".to_owned())];
        assert_eq!(got.config, Some(CloudConfig::Http { headers: want.into() }));
    }
}
