//! What is asked for, and what is made of the answers.

use floe_api::Secret;
use floe_api::job::StorageOptions;

use super::*;

#[test]
fn the_configuration_says_where_everything_is() {
    let server = Server::start(|seen| match seen.path.split('?').next().unwrap() {
        "/api/v1/config" => Reply::json(
            r#"{"defaults":{"prefix":"no","s3.region":"r"},"overrides":{"prefix":"a/b","namespace-separator":"%2E","x":null}}"#,
        ),
        "/api/v1/a/b/namespaces/x%2Ey/tables" => {
            Reply::json(r#"{"identifiers":[{"namespace":["x","y"],"name":"u"},{"namespace":["x","y"],"name":"t"}]}"#)
        }
        other => panic!("{other}"),
    });
    let catalog = Catalog::open(&options(&server, &[("header.X-Tenant", "me"), ("prefix", "mine")])).unwrap();
    assert_eq!(catalog.tables(&["x".into(), "y".into()]).unwrap(), ["t", "u"]);
    let seen = server.seen();
    assert_eq!(seen[0].path, "/api/v1/config?warehouse=w%20h");
    assert!(seen.iter().all(|seen| seen.header("x-tenant") == Some("me") && seen.header("authorization").is_none()));
}

#[test]
fn lists_go_on_to_the_last_page() {
    let server = serve(|seen| match seen.path.as_str() {
        "/api/v1/p/namespaces" => Reply::json(r#"{"namespaces":[["b"]],"next-page-token":"t/1"}"#),
        "/api/v1/p/namespaces?pageToken=t%2F1" => Reply::json(r#"{"namespaces":[["a"]],"next-page-token":null}"#),
        "/api/v1/p/namespaces?parent=a%1Fb.c" => {
            Reply::json(r#"{"namespaces":[["a","b.c","d"]],"next-page-token":"2"}"#)
        }
        "/api/v1/p/namespaces?parent=a%1Fb.c&pageToken=2" => Reply::json(r#"{"namespaces":[]}"#),
        "/api/v1/p/namespaces/loop/tables" => Reply::json(r#"{"identifiers":[],"next-page-token":"same"}"#),
        "/api/v1/p/namespaces/loop/tables?pageToken=same" => {
            Reply::json(r#"{"identifiers":[],"next-page-token":"same"}"#)
        }
        other => panic!("{other}"),
    });
    let catalog = open(&server);
    assert_eq!(catalog.namespaces(&[]).unwrap(), [["a"], ["b"]]);
    assert_eq!(catalog.namespaces(&["a".into(), "b.c".into()]).unwrap(), [["a", "b.c", "d"]]);
    let error = catalog.tables(&["loop".into()]).unwrap_err();
    assert!(error.message.contains("the list does not end"), "{}", error.message);
}

#[test]
fn a_table_comes_with_what_opens_its_files() {
    let server = serve(|seen| {
        assert_eq!(seen.path, "/api/v1/p/namespaces/a%1Fb/tables/t%20t?snapshots=all");
        assert_eq!(seen.header("x-iceberg-access-delegation"), Some("vended-credentials"));
        Reply::json(&format!(
            r#"{{"metadata-location":"s3://b/ns/t/metadata/1.metadata.json","metadata":{METADATA},
                "config":{{"s3.region":"r","s3.access-key-id":"wide","token":"t"}},
                "storage-credentials":[
                    {{"prefix":"s3://b/ns/t","config":{{"s3.access-key-id":"narrow","s3.session-token-expires-at-ms":"17"}}}},
                    {{"prefix":"s3://b/ns/t/other/","config":{{"s3.access-key-id":"other"}}}}]}}"#
        ))
    });
    let given = options(&server, &[("s3.endpoint", "http://minio:9000"), ("s3.region", "mine")]);
    let loaded = Catalog::open(&given).unwrap().load(&["a".into(), "b".into()], "t t").unwrap();
    assert_eq!(loaded.metadata_location.as_deref(), Some("s3://b/ns/t/metadata/1.metadata.json"));
    assert_eq!((&*loaded.metadata, loaded.location.as_str()), (METADATA.as_bytes(), "s3://b/ns/t"));
    assert_eq!(loaded.metadata_value().unwrap()["table-uuid"], "u");
    assert_eq!(loaded.expires_at_ms, Some(17));
    let shown = |options: &StorageOptions| -> Vec<String> {
        options.iter().map(|(key, value)| format!("{key}={}", value.reveal())).collect()
    };
    let want =
        ["aws_access_key_id=narrow", "aws_allow_http=true", "aws_endpoint_url=http://minio:9000", "aws_region=r"];
    assert_eq!(shown(&loaded.storage_options), want);
    // The query's own options are below those of the catalog.
    let own: StorageOptions = [("aws_region", "own"), ("aws_skip_signature", "false")]
        .map(|(key, value)| (key.to_owned(), Secret::from(value)))
        .into();
    let other = loaded.storage_for("s3://b/ns/t/other/1.parquet", &own).unwrap();
    assert_eq!(other["aws_access_key_id"].reveal(), "other");
    assert_eq!((other["aws_region"].reveal(), other["aws_skip_signature"].reveal()), ("r", "false"));
    assert!(!format!("{loaded:?}").contains("narrow"), "credentials are not shown");
}

#[test]
fn signing_by_the_catalog_is_refused_by_name() {
    let server = serve(|_| {
        Reply::json(&format!(r#"{{"metadata":{METADATA},"config":{{"s3.remote-signing-enabled":"true"}}}}"#))
    });
    let loaded = open(&server).load(&ns(), "t").unwrap();
    let error = loaded.storage_for("s3://b/ns/t/1.parquet", &StorageOptions::new()).unwrap_err();
    assert_eq!(error.class, "UnsupportedCatalog");
    assert!(error.message.starts_with("catalog lake: table ns.t: "), "{}", error.message);
    let own = [("aws_access_key_id".to_owned(), Secret::from("k"))].into();
    assert_eq!(loaded.storage_for("s3://b/ns/t/1.parquet", &own).unwrap(), own);
    // And signed requests to the catalog itself, whoever asks for them.
    let error = Catalog::open(&options(&server, &[("rest.sigv4-enabled", "true")])).err().unwrap();
    assert!(error.message.contains("rest.sigv4-enabled"), "{}", error.message);
    let asking = Server::start(|_| Reply::json(r#"{"overrides":{"rest.auth.type":"google"}}"#));
    let error = Catalog::open(&options(&asking, &[])).err().unwrap();
    assert!(error.message.contains("type google"), "{}", error.message);
}

#[test]
fn what_is_missing_is_told_with_what_is_there() {
    let server = serve(|seen| match seen.path.as_str() {
        "/api/v1/p/namespaces" => Reply::json(r#"{"namespaces":[["sales"],["stock"]]}"#),
        "/api/v1/p/namespaces/sales/tables" => Reply::json(
            r#"{"identifiers":[{"namespace":["sales"],"name":"orders"},{"namespace":["sales"],"name":"lines"}]}"#,
        ),
        path if path.contains("/namespaces/sales/tables/") => Reply::error(404, "NoSuchTableException", "no"),
        _ => Reply::error(404, "NoSuchNamespaceException", "no"),
    });
    let catalog = open(&server);
    let message = |namespace: &str, name: &str| {
        let error = catalog.load(&[namespace.to_owned()], name).unwrap_err();
        format!("{}: {}", error.class, error.message)
    };
    let near = "TableNotFound: catalog lake: there is no table sales.ordrs; did you mean sales.orders?";
    assert_eq!(message("sales", "ordrs"), near);
    let far = "TableNotFound: catalog lake: there is no table sales.customers; sales has lines, orders";
    assert_eq!(message("sales", "customers"), far);
    let near = "NamespaceNotFound: catalog lake: there is no namespace sale; did you mean sales?";
    assert_eq!(message("sale", "orders"), near);
    let far = "NamespaceNotFound: catalog lake: there is no namespace warehouse; it has sales, stock";
    assert_eq!(message("warehouse", "orders"), far);
    assert!(!catalog.exists(&["sales".into()], "ordrs").unwrap());
    let error = catalog.load(&["..".into()], "t").unwrap_err();
    assert_eq!(error.class, "BadName");
}

#[test]
fn a_table_exists_also_where_head_is_not_known() {
    let server = serve(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("HEAD", "/api/v1/p/namespaces/ns/tables/t") => Reply::new(405, ""),
        ("GET", "/api/v1/p/namespaces/ns/tables/t") => table(),
        ("HEAD", "/api/v1/p/namespaces/ns/tables/u") => Reply::new(204, ""),
        other => panic!("{other:?}"),
    });
    let catalog = open(&server);
    assert!(catalog.exists(&ns(), "t").unwrap() && catalog.exists(&ns(), "u").unwrap());
}
