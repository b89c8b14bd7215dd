//! Tables that are made and changed: what is certain afterwards.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{Create, Outcome};

const TABLE: &str = "POST /api/v1/p/namespaces/ns/tables/t";

fn commit(catalog: &Catalog) -> floe_wire::error::Result<Outcome> {
    catalog.commit(
        &ns(),
        "t",
        &[json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": 1})],
        &[json!({"action": "x"})],
    )
}

#[test]
fn a_commit_says_what_it_requires_and_changes() {
    let server = serve(|_| table());
    let outcome = commit(&open(&server)).unwrap();
    assert!(matches!(outcome, Outcome::Done(loaded) if loaded.location == "s3://b/ns/t"));
    let seen = server.seen().pop().unwrap();
    assert_eq!(format!("{} {}", seen.method, seen.path), TABLE);
    assert_eq!(seen.header("content-type"), Some("application/json"));
    let want = json!({
        "identifier": {"namespace": ["ns"], "name": "t"},
        "requirements": [{"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": 1}],
        "updates": [{"action": "x"}],
    });
    assert_eq!(serde_json::from_str::<Value>(&seen.body).unwrap(), want);
}

#[test]
fn a_commit_is_sent_again_only_if_it_was_not_done() {
    let outcomes = |reply: fn(&Seen) -> Reply| {
        let server = serve(reply);
        (commit(&open(&server)), server.paths().len())
    };
    let conflict = |_: &Seen| Reply::error(409, "CommitFailedException", "main has changed");
    let (outcome, sent) = outcomes(conflict);
    let Ok(Outcome::Conflict(why)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(why, "catalog lake: table ns.t: HTTP 409: CommitFailedException: main has changed");
    assert_eq!(sent, 1);
    for reply in [
        |_: &Seen| Reply::new(500, ""),
        |_: &Seen| Reply::new(502, ""),
        |_: &Seen| Reply::new(503, ""),
        |_: &Seen| Reply::cut(),
    ] {
        let (outcome, sent) = outcomes(reply);
        assert!(matches!(outcome, Ok(Outcome::Unknown(_))), "{outcome:?}");
        assert_eq!(sent, 1);
    }
    let limited = |seen: &Seen| if seen.before == 0 { Reply::new(429, "").with("retry-after", "0") } else { table() };
    let (outcome, sent) = outcomes(limited);
    assert!(matches!(outcome, Ok(Outcome::Done(_))) && sent == 2, "{outcome:?}");
    // What a busy server asks to send again may have been done all the same.
    let busy = |seen: &Seen| match seen.before {
        0 => Reply::new(503, "").with("retry-after", "0"),
        _ => Reply::error(409, "CommitFailedException", "main has changed"),
    };
    let (outcome, sent) = outcomes(busy);
    assert!(matches!(outcome, Ok(Outcome::Unknown(_))) && sent == 2, "{outcome:?}");
    let (outcome, sent) = outcomes(|_| Reply::json("{"));
    assert!(matches!(outcome, Ok(Outcome::Unknown(_))) && sent == 1, "{outcome:?}");
    let (outcome, _) = outcomes(|_| Reply::error(400, "BadRequestException", "no such action"));
    assert!(outcome.unwrap_err().message.contains("HTTP 400: BadRequestException: no such action"));
    let (outcome, _) = outcomes(|seen| match seen.method.as_str() {
        "POST" => Reply::error(404, "NoSuchTableException", "no"),
        _ => Reply::json(r#"{"identifiers":[{"namespace":["ns"],"name":"t1"}]}"#),
    });
    assert_eq!(outcome.unwrap_err().message, "catalog lake: there is no table ns.t; did you mean ns.t1?");
}

#[test]
fn a_slow_commit_is_not_known_to_be_made() {
    let server = serve(|_| table().after(Duration::from_secs(5)));
    let catalog = Catalog::open(&options(&server, &[("rest.client.socket-timeout-ms", "300")])).unwrap();
    let outcome = commit(&catalog).unwrap();
    assert!(matches!(&outcome, Outcome::Unknown(why) if why.contains("did not answer in time")), "{outcome:?}");
    assert_eq!(server.paths(), [TABLE]);
}

#[test]
fn tables_are_made_with_what_is_known_of_them() {
    let server = serve(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("POST", "/api/v1/p/namespaces") => Reply::error(409, "AlreadyExistsException", "there"),
        ("POST", "/api/v1/p/namespaces/ns/tables") if seen.body.contains("taken") => {
            Reply::error(409, "AlreadyExistsException", "there")
        }
        ("POST", "/api/v1/p/namespaces/ns/tables") => Reply::json(&format!(r#"{{"metadata":{METADATA}}}"#)),
        ("POST", _) => Reply::error(404, "NoSuchNamespaceException", "no"),
        ("GET", "/api/v1/p/namespaces") => Reply::json(r#"{"namespaces":[["ns"]]}"#),
        other => panic!("{other:?}"),
    });
    let catalog = open(&server);
    catalog.create_namespace(&ns()).unwrap();
    let create = Create { schema: json!({"type": "struct", "fields": []}), stage: true, ..Create::default() };
    let Outcome::Done(staged) = catalog.create(&ns(), "t", &create).unwrap() else { panic!("it is made") };
    assert_eq!(staged.metadata_location, None);
    let body: Value = serde_json::from_str(&server.seen().pop().unwrap().body).unwrap();
    let want = json!({"name": "t", "schema": {"type": "struct", "fields": []}, "stage-create": true, "properties": {}});
    assert_eq!(body, want);
    assert!(matches!(catalog.create(&ns(), "taken", &create).unwrap(), Outcome::Conflict(_)));
    let error = catalog.create(&["nsx".into()], "t", &create).unwrap_err();
    assert_eq!(error.message, "catalog lake: there is no namespace nsx; did you mean ns?");
}
