//! Kinds of statements, parameters, table functions, marks: without resolving the texts.

use super::*;
use serde_json::json;

fn statement(text: &str) -> Result<Statement, Fault> {
    let params = [
        ("day", json!("it's")),
        ("n", json!(-3)),
        ("x", json!(1.5)),
        ("ids", json!([1, 2])),
        ("none", json!(null)),
        ("deep", json!([[1]])),
    ];
    let params = params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    read(&Sql::read(text)?, &params, Numbered::default())
}

fn query(text: &str) -> String {
    statement(text).unwrap_or_else(|fault| panic!("{text}: {}", fault.message)).query
}

#[test]
fn parameters_go_in_as_literals() {
    let cases = [
        ("select $day", "select 'it''s'"),
        ("select 1-$n;", "select 1-(-3)"),
        ("select $x, $none", "select CAST('1.5' AS DOUBLE), NULL"),
        ("select a in ($ids), a in $ids", "select a in (1, 2), a in (1, 2)"),
        ("select '$day' -- $day", "select '$day' -- $day"),
    ];
    for (text, want) in cases {
        assert_eq!(query(text), want);
    }
    let fault = statement("select\n $dy").unwrap_err();
    assert_eq!(fault.at, 8);
    assert!(fault.message.contains("did you mean $day?"), "{}", fault.message);
    assert!(statement("select $deep").unwrap_err().message.contains("a list of lists"));
}

#[test]
fn files_become_tables() {
    let statement = statement("select * from read_parquet('s3://b/it''s/*.parquet') as x").unwrap();
    assert_eq!(statement.query, "select * from \"__floe_file_0\" as x");
    let file =
        File { name: "__floe_file_0".into(), format: Format::Parquet, uri: "s3://b/it's/*.parquet".into(), at: 27 };
    assert_eq!(statement.files, [file]);
    assert_eq!(query("select read_csv from t"), "select read_csv from t");
    assert_eq!(query("select \"read_csv\" from t"), "select \"read_csv\" from t");
    for name in ["\"read_csv\"", "`read_csv`", "\"READ_CSV\"", "Read_Csv"] {
        assert_eq!(query(&format!("select * from {name}('/etc/passwd')")), "select * from \"__floe_file_0\"");
        assert_eq!(query(&format!("describe {name}('/etc/passwd')")).trim(), "SELECT * FROM \"__floe_file_0\"");
    }
}

#[test]
fn orders_of_several_keys_are_marked() {
    let text = "select rank() over (partition by f(a, b) order by a desc, g(b, c), d nulls first rows 1 preceding), \
                sum(x) over w, count(*) over (order by a desc) from t window v as (order by a), w as (order by b desc nulls last, $n)";
    let statement = statement(text).unwrap();
    assert!(
        statement.query.contains("order by CASE WHEN '__floe_order_0' IS NULL THEN NULL ELSE a END desc, g(b, c)"),
        "{}",
        statement.query
    );
    assert!(
        statement
            .query
            .contains("w as (order by CASE WHEN '__floe_order_1' IS NULL THEN NULL ELSE b END desc nulls last, (-3))")
    );
    let order = |descending: &[bool], nulls_last: &[bool]| Order {
        descending: descending.to_vec(),
        nulls_last: nulls_last.to_vec(),
    };
    assert_eq!(
        statement.orders,
        [order(&[true, false, false], &[false, true, false]), order(&[true, false], &[true, true])]
    );
}

#[test]
fn texts_of_one_query_number_on() {
    let text = "select rank() over (order by a, b) from read_csv('x.csv')";
    let sql = Sql::of_view("v", text).unwrap();
    let statement = read(&sql, &BTreeMap::new(), Numbered { orders: 2, files: 1 }).unwrap();
    assert!(statement.query.contains("__floe_order_2") && statement.query.contains("__floe_file_1"));
    assert_eq!((statement.orders.len(), statement.files.len()), (1, 1));
    let refused = read(&Sql::of_view("v", "describe t").unwrap(), &BTreeMap::new(), Numbered::default());
    assert!(refused.unwrap_err().message.contains("a view is a query, and describe is none"));
}

#[test]
fn only_queries_are_let_through() {
    let fine = [
        ("with a as (select 1), b as (select 2) select * from a, b", Ask::Query),
        ("with a(x) as (select 1) select * from a", Ask::Query),
        ("with a as (select (select 1)) select * from a", Ask::Query),
        ("(select 1) union (select 2);", Ask::Query),
        ("explain select 1", Ask::Explain),
        ("DESCRIBE main.t", Ask::Describe),
        ("summarize select 1 as a", Ask::Summarize),
        ("show tables", Ask::ShowTables),
    ];
    for (text, ask) in fine {
        assert_eq!(statement(text).unwrap().ask, ask, "{text}");
    }
    assert_eq!(query("describe main.t").trim(), "SELECT * FROM main.t");
    assert_eq!(query("summarize read_csv('x.csv')").trim(), "SELECT * FROM \"__floe_file_0\"");
    let refused = [
        ("drop table t", "DROP is no query"),
        ("explain drop table t", "DROP is no query"),
        ("with a as (select 1) delete from t", "DELETE is no query"),
        ("select 1; drop table t", "a second statement"),
        ("selec 1", "did you mean SELECT?"),
        (" ; ", "there is no query"),
        ("explain", "is not followed by"),
        ("show columns", "write SHOW TABLES"),
        ("explain analyze select 1", "takes no options"),
    ];
    for (text, part) in refused {
        let message = statement(text).unwrap_err().message;
        assert!(message.contains(part), "{text}: {message}");
    }
    assert!(statement(&format!("select {}1{}", "(".repeat(300), ")".repeat(300))).is_err());
}
