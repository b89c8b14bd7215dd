//! Parts against a server: each row is in exactly one of them, whatever happens to the table meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

use std::collections::BTreeSet;

use floe_postgres::{Described, Part, Pushed, Snapshot, Source, split};
use floe_wire::error::Category;
use serde_json::{Value, json};
use server::{Server, all, described, read_part};

mod server;

/// How many rows each part has. Fails unless together they are all rows, once.
async fn sizes(source: &Source, snapshot: &Snapshot, described: &Described, parts: &[Part], rows: usize) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    let mut sizes = Vec::new();
    let pushed = Pushed { columns: vec!["id".to_owned()], ..Pushed::default() };
    for part in parts {
        let found = read_part(source, snapshot, described, &pushed, part).await.unwrap();
        sizes.push(found.len());
        for row in found {
            assert!(seen.insert(row[0].clone()), "row {} is in two parts of {parts:?}", row[0]);
        }
    }
    assert_eq!(seen.len(), rows, "{parts:?}");
    sizes
}

fn of(table: &str, partition: Value) -> Value {
    json!({"table": table, "partition": partition})
}

const TABLE: &str = "
    CREATE TABLE orders AS SELECT g AS id, CASE WHEN g % 10 > 0 THEN (g % 1000)::int END AS k, 'name ' || g % 777 AS name,
        CASE g % 5 WHEN 0 THEN NULL WHEN 1 THEN 'de' WHEN 2 THEN 'at' ELSE 'it''s' END AS country,
        date '2020-01-01' + g % 365 AS day, (g % 100)::float8 AS f, repeat(md5(g::text), 8) AS filler FROM generate_series(1, 20000) AS g";

#[tokio::test(flavor = "multi_thread")]
async fn each_row_is_in_one_part() {
    let server = Server::start();
    server.run(TABLE);
    for analyzed in [false, true] {
        if analyzed {
            server.run("ANALYZE orders");
        }
        for (options, least, even) in [
            (json!({"table": "orders"}), 2, true),
            (of("orders", json!({"column": "k", "count": 4})), 4, true),
            (of("orders", json!({"column": "id", "count": 4})), 4, true),
            (of("orders", json!({"column": "day", "count": 3})), 3, true),
            (of("orders", json!({"column": "name"})), if analyzed { 4 } else { 1 }, true),
            (of("orders", json!({"column": "f"})), if analyzed { 4 } else { 1 }, false),
            (of("orders", json!({"column": "k", "bounds": [500, "100", 500]})), 3, false),
            (of("orders", json!({"column": "country", "by": "value"})), 3, false),
            (of("orders", json!({"column": "country", "by": "value", "count": 2})), 2, false),
            (json!({"query": "SELECT id, k FROM orders", "partition": {"column": "k", "count": 4}}), 4, true),
            (json!({"query": "SELECT id, k FROM orders"}), 1, true),
        ] {
            let shown = options.to_string();
            let source = server.source(options);
            let (mut snapshot, described) = described(&source).await;
            let parts = split(&mut snapshot, &source, &described, 4).await.unwrap();
            assert!(parts.len() >= least, "{shown}: {parts:?}");
            let sizes = sizes(&source, &snapshot, &described, &parts, 20_000).await;
            let largest = sizes.iter().max().unwrap() * sizes.len();
            assert!(!even || largest < 20_000 * 3 / 2, "{shown}: {sizes:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_tables_and_an_empty_one() {
    let server = Server::start();
    server.run(
        "CREATE TABLE p (id int, k int) PARTITION BY RANGE (id);
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (200000);
         CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (200000) TO (300000);
         INSERT INTO p SELECT g, g FROM generate_series(1, 249999) AS g;
         CREATE TABLE none (id int);
         CREATE VIEW v AS SELECT * FROM p",
    );
    for (table, parts_least, rows) in [("p", 3, 249_999), ("none", 1, 0), ("v", 1, 249_999)] {
        let source = server.source(json!({"table": table}));
        let (mut snapshot, described) = described(&source).await;
        let parts = split(&mut snapshot, &source, &described, 3).await.unwrap();
        assert!(parts.len() >= parts_least, "{parts:?}");
        sizes(&source, &snapshot, &described, &parts, rows).await;
    }
    for by in [json!({"column": "id"}), json!({"column": "id", "by": "value"})] {
        let source = server.source(of("none", by));
        let (mut snapshot, described) = described(&source).await;
        let parts = split(&mut snapshot, &source, &described, 3).await.unwrap();
        sizes(&source, &snapshot, &described, &parts, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_is_that_of_the_columns_collation() {
    let server = Server::start();
    server.run(
        "CREATE COLLATION german (provider = icu, locale = 'de');
         CREATE TABLE words (id int, w text COLLATE german);
         INSERT INTO words SELECT row_number() OVER (), w FROM unnest('{a,B,c,D,ä,Z,z,Ö}'::text[]) AS w",
    );
    let source = server.source(of("words", json!({"column": "w", "bounds": ["b", "Z", "ö"]})));
    let (mut snapshot, described) = described(&source).await;
    let parts = split(&mut snapshot, &source, &described, 3).await.unwrap();
    // a and ä; B, c and D; Ö and z; Z. By bytes, Z would be the first bound, and umlauts would come last.
    assert_eq!(sizes(&source, &snapshot, &described, &parts, 8).await, [2, 3, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_parts_see_one_state() {
    let server = Server::start();
    server.run(TABLE);
    let source = server.source(json!({"table": "orders"}));
    let (mut snapshot, described) = described(&source).await;
    snapshot.hold(&described.from).await.unwrap();
    let parts = split(&mut snapshot, &source, &described, 3).await.unwrap();
    let first = read_part(&source, &snapshot, &described, &all(&described), &parts[0]).await.unwrap();
    // Rows change, come and go between two parts; each update moves its row to another block.
    server.run("UPDATE orders SET k = -1 WHERE id % 3 = 0; DELETE FROM orders WHERE id % 3 = 1");
    server.run("INSERT INTO orders SELECT g FROM generate_series(20001, 22000) AS g");
    server.run("VACUUM orders");
    assert!(first.iter().all(|row| row[1] != "-1"));
    let sizes = sizes(&source, &snapshot, &described, &parts, 20_000).await;
    assert_eq!(sizes[0], first.len());
    // What would move the rows has to wait for the query.
    let truncate = "SET lock_timeout = '300ms'; TRUNCATE orders";
    assert!(std::panic::catch_unwind(|| server.run(truncate)).is_err());
    let id = snapshot.id.clone();
    drop(snapshot);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    server.run(truncate);
    // A snapshot goes with the connection that exported it.
    let select = floe_postgres::sql::select(&described, &all(&described), &Part::Whole).unwrap();
    let error = floe_postgres::Reading::open(&source, Some(&id), &select, Default::default()).await.err().unwrap();
    assert!(error.message.contains("snapshot"), "{}", error.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_split_so_is_named() {
    let server = Server::start();
    server.run("CREATE TABLE t AS SELECT g AS id, '{}'::json AS j FROM generate_series(1, 20000) AS g");
    for (partition, expected) in [
        (json!({"column": "nope"}), "partition.column: nope is not a column; there are id, j"),
        (json!({"column": "id", "bounds": ["x"]}), "putting the bounds of partition in order"),
        (json!({"column": "id", "by": "value"}), "partition.by: value is for columns of up to 10000 values"),
        (json!({"column": "j", "bounds": ["{}"]}), "putting the bounds of partition in order"),
    ] {
        let source = server.source(of("t", partition));
        let (mut snapshot, described) = described(&source).await;
        let error = split(&mut snapshot, &source, &described, 3).await.unwrap_err();
        assert_eq!(error.category, Category::User);
        assert!(error.message.starts_with(expected), "{}", error.message);
    }
}
