//! Cutting what is read into parts: every row is in exactly one, null keys too, as long as all parts see one snapshot.

use serde::{Deserialize, Serialize};

use crate::describe::{Blocks, Described, Server};
use crate::error::spec;
use crate::literal::{name, text};
use crate::options::{By, Partition, Source};
use crate::snapshot::Snapshot;
use crate::sql::From;
use crate::types::{Column, Type};
use floe_wire::error::{QueryError, Result};

/// A part smaller than this is not worth a connection.
const LEAST_BLOCKS: u64 = 256;
/// Before that, a condition on `ctid` read the whole table.
const RANGES_OF_BLOCKS: i32 = 140_000;
/// `by: value` is for columns of few.
const MOST_VALUES: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    Whole,
    /// Of a table and of each table below it: the blocks from one up to another, or up to the end.
    Blocks {
        from: u64,
        to: Option<u64>,
    },
    /// From one value up to another; the first range has the nulls. `cast` is the type's name in SQL.
    Range {
        column: String,
        cast: String,
        from: Option<String>,
        to: Option<String>,
    },
    Values {
        column: String,
        cast: String,
        values: Vec<String>,
        nulls: bool,
    },
}

impl Part {
    /// The rows of this part, as a condition.
    pub(crate) fn condition(&self) -> Option<String> {
        let constant = |value: &String, cast: &String| format!("{}::{cast}", text(value));
        match self {
            Part::Whole => None,
            Part::Blocks { from, to } => {
                let mut sql = format!("ctid >= '({from},0)'::tid");
                if let Some(to) = to {
                    sql.push_str(&format!(" AND ctid < '({to},0)'::tid"));
                }
                Some(format!("({sql})"))
            }
            Part::Range { column, cast, from, to } => {
                let column = name(column);
                Some(match (from, to) {
                    (None, None) => return None,
                    (None, Some(to)) => format!("({column} < {} OR {column} IS NULL)", constant(to, cast)),
                    (Some(from), None) => format!("({column} >= {})", constant(from, cast)),
                    (Some(from), Some(to)) => {
                        format!("({column} >= {} AND {column} < {})", constant(from, cast), constant(to, cast))
                    }
                })
            }
            Part::Values { column, cast, values, nulls } => {
                let column = name(column);
                let mut any: Vec<String> = Vec::new();
                if !values.is_empty() {
                    let values: Vec<String> = values.iter().map(|value| constant(value, cast)).collect();
                    any.push(format!("{column} IN ({})", values.join(", ")));
                }
                if *nulls {
                    any.push(format!("{column} IS NULL"));
                }
                Some(format!("({})", any.join(" OR ")))
            }
        }
    }
}

/// `wanted` parts at most, unless the options say how many: then one connection reads several of them.
pub async fn split(
    snapshot: &mut Snapshot,
    source: &Source,
    described: &Described,
    wanted: usize,
) -> Result<Vec<Part>> {
    let wanted = wanted.clamp(1, source.connections);
    match &source.partition {
        None => Ok(described.blocks.map_or(vec![Part::Whole], |blocks| by_blocks(blocks, &described.server, wanted))),
        Some(partition) => {
            let column = described.column(&partition.column).ok_or_else(|| {
                let known: Vec<&str> = described.columns.iter().map(|column| column.name.as_str()).collect();
                let text = format!("{} is not a column; there are {}", partition.column, known.join(", "));
                spec("partition.column", text)
            })?;
            by_column(snapshot, described, column, partition, wanted).await
        }
    }
}

fn by_blocks(blocks: Blocks, server: &Server, wanted: usize) -> Vec<Part> {
    let parts = (wanted as u64).min(blocks.most / LEAST_BLOCKS).max(1);
    if server.version < RANGES_OF_BLOCKS || parts == 1 {
        return vec![Part::Whole];
    }
    let cut = |at: u64| blocks.most * at / parts;
    (0..parts)
        // The last has no end: the table may be longer than its size was.
        .map(|at| Part::Blocks { from: cut(at), to: (at + 1 < parts).then(|| cut(at + 1)) })
        .collect()
}

async fn by_column(
    snapshot: &mut Snapshot,
    described: &Described,
    column: &Column,
    partition: &Partition,
    wanted: usize,
) -> Result<Vec<Part>> {
    let wanted = partition.count.unwrap_or(wanted);
    let cutting = Cutting {
        from: described.from.sql(),
        column: name(&column.name),
        cast: cast(snapshot, described, column).await?,
    };
    match &partition.by {
        By::Value => cutting.by_values(snapshot, column, wanted).await,
        By::Bounds(bounds) => cutting.ranges(snapshot, column, bounds).await,
        By::Range => {
            let known = cutting.of_statistics(snapshot, described, column).await?;
            if known.len() < wanted {
                let bounds = cutting.between_ends(snapshot, column, wanted).await?;
                if !bounds.is_empty() {
                    return cutting.ranges(snapshot, column, &bounds).await;
                }
            }
            let known = cutting.in_order(snapshot, known).await?;
            cutting.ranges(snapshot, column, &evenly(known, wanted)).await
        }
    }
}

/// The column's type as a cast writes it, without a length that would cut values short.
async fn cast(snapshot: &mut Snapshot, described: &Described, column: &Column) -> Result<String> {
    let sql = format!(
        "SELECT format_type(pg_typeof(floe_none.{column})::oid, NULL) \
         FROM (SELECT 1) AS one LEFT JOIN (SELECT {column} FROM {from} LIMIT 0) AS floe_none ON true",
        column = name(&column.name),
        from = described.from.sql()
    );
    let found = snapshot.connection.texts(&sql, "asking for the type of the partition column").await?;
    Ok(found.into_iter().next().flatten().unwrap_or_else(|| "text".to_owned()))
}

struct Cutting {
    from: String,
    column: String,
    cast: String,
}

impl Cutting {
    /// As the database orders the column, each once, with its weight. It refuses what is no value of the column.
    async fn in_order(&self, snapshot: &mut Snapshot, bounds: Vec<(String, f64)>) -> Result<Vec<(String, f64)>> {
        let Cutting { from, column, cast } = self;
        if bounds.is_empty() {
            return Ok(Vec::new());
        }
        let value = |(bound, weight): &(String, f64)| format!("({}::{cast}, '{weight}'::float8)", text(bound));
        let values: Vec<String> = bounds.iter().map(value).collect();
        // The column's own rows are left out, and its collation decides.
        let sql = format!(
            "SELECT json_build_array(bound::text, sum(weight))::text \
             FROM (SELECT {column}, 0::float8 FROM {from} WHERE false UNION ALL VALUES {}) AS floe_bounds (bound, weight) \
             WHERE bound IS NOT NULL GROUP BY bound ORDER BY bound",
            values.join(", ")
        );
        weighted(snapshot, &sql, "putting the bounds of partition in order").await
    }

    /// Ranges that end before each of the bounds, and one more.
    async fn ranges(&self, snapshot: &mut Snapshot, column: &Column, bounds: &[String]) -> Result<Vec<Part>> {
        let bounds = bounds.iter().map(|bound| (bound.clone(), 1.0)).collect();
        let bounds: Vec<String> = self.in_order(snapshot, bounds).await?.into_iter().map(|(bound, _)| bound).collect();
        if bounds.is_empty() {
            return Ok(vec![Part::Whole]);
        }
        let ends = bounds.iter().cloned().map(Some).chain([None]);
        let starts = [None].into_iter().chain(bounds.iter().cloned().map(Some));
        let range = |(from, to)| Part::Range { column: column.name.clone(), cast: self.cast.clone(), from, to };
        Ok(starts.zip(ends).map(range).collect())
    }

    /// Bounds of the column's histogram and its most common values, each with the share of the rows from it up to the next.
    async fn of_statistics(
        &self,
        snapshot: &mut Snapshot,
        described: &Described,
        column: &Column,
    ) -> Result<Vec<(String, f64)>> {
        let From::Table { schema, name: table } = &described.from else {
            return Ok(Vec::new());
        };
        let sql = format!(
            "SELECT json_build_array(bound, share)::text FROM (\
               SELECT *, histogram_bounds::text::text[] AS bounds FROM pg_catalog.pg_stats \
               WHERE schemaname = {} AND tablename = {} AND attname = {} ORDER BY inherited DESC LIMIT 1) AS newest, \
             LATERAL (\
               SELECT bound, greatest(0, 1 - null_frac \
                   - coalesce((SELECT sum(share) FROM unnest(most_common_freqs) AS common (share)), 0)) \
                   / greatest(1, cardinality(bounds) - 1) AS share FROM unnest(bounds) AS histogram (bound) \
               UNION ALL SELECT * FROM unnest(most_common_vals::text::text[], most_common_freqs)) AS all_of_them (bound, share)",
            text(schema),
            text(table),
            text(&column.name)
        );
        weighted(snapshot, &sql, "asking for the statistics of the partition column").await
    }

    /// Evenly between the lowest and the highest value, where such a thing can be computed.
    async fn between_ends(&self, snapshot: &mut Snapshot, column: &Column, wanted: usize) -> Result<Vec<String>> {
        let Cutting { from, column: name, cast } = self;
        let value = match column.r#type {
            Type::Int16 | Type::Int32 | Type::Int64 | Type::Decimal { .. } => {
                format!("(low::numeric + trunc((high::numeric - low::numeric) * part / {wanted}))::{cast}")
            }
            Type::Date => format!("low + ((high - low)::int8 * part / {wanted})::int4"),
            Type::Datetime | Type::DatetimeUtc => format!("low + (high - low) * (part::float8 / {wanted})"),
            _ => return Ok(Vec::new()),
        };
        let finite = match column.r#type {
            Type::Date | Type::Datetime | Type::DatetimeUtc => format!("isfinite({name})"),
            Type::Decimal { .. } => format!("{name} <> 'NaN'"),
            _ => "true".to_owned(),
        };
        let sql = format!(
            "SELECT ({value})::text FROM (SELECT min({name}) AS low, max({name}) AS high FROM {from} WHERE {finite}) AS ends, \
             generate_series(1, {}) AS part",
            wanted - 1
        );
        let found = snapshot.connection.texts(&sql, "asking for the ends of the partition column").await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn by_values(&self, snapshot: &mut Snapshot, column: &Column, wanted: usize) -> Result<Vec<Part>> {
        let Cutting { from, column: name, cast } = self;
        let sql = format!(
            "SELECT value::text FROM (SELECT {name}, count(*) FROM {from} WHERE {name} IS NOT NULL GROUP BY 1 \
             LIMIT {}) AS floe_values (value, rows) ORDER BY rows DESC, 1",
            MOST_VALUES + 1
        );
        let found = snapshot.connection.texts(&sql, "asking for the values of the partition column").await?;
        if found.len() > MOST_VALUES {
            let text = format!(
                "value is for columns of up to {MOST_VALUES} values, and {} has more: write range",
                column.name
            );
            return Err(spec("partition.by", text));
        }
        let values: Vec<String> = found.into_iter().flatten().collect();
        let parts = wanted.clamp(1, values.len().max(1));
        let part = |at: usize| Part::Values {
            column: column.name.clone(),
            cast: cast.clone(),
            // The largest first, so that each gets about as many rows.
            values: values.iter().skip(at).step_by(parts).cloned().collect(),
            nulls: at + 1 == parts,
        };
        Ok((0..parts).map(part).collect())
    }
}

/// Values with their weights, which come as JSON.
async fn weighted(snapshot: &mut Snapshot, sql: &str, doing: &str) -> Result<Vec<(String, f64)>> {
    let found = snapshot.connection.texts(sql, doing).await?;
    let read =
        |text: String| serde_json::from_str(&text).map_err(|error| QueryError::internal(format!("{doing}: {error}")));
    found.into_iter().flatten().map(read).collect()
}

/// Bounds that cut into about `parts` parts of the same weight.
fn evenly(bounds: Vec<(String, f64)>, parts: usize) -> Vec<String> {
    let all: f64 = bounds.iter().map(|(_, weight)| weight).sum();
    let (mut cut, mut before) = (Vec::new(), 0.0);
    for (bound, weight) in bounds {
        // Rounding must not cost a part.
        if before + all * 1e-9 >= all * (cut.len() + 1) as f64 / parts as f64 && cut.len() + 1 < parts {
            cut.push(bound);
        }
        before += weight;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: i32) -> Server {
        Server { version, utf8: true }
    }

    #[test]
    fn blocks_are_cut_evenly_and_the_last_part_is_open() {
        let blocks = |most| Blocks { most, block_bytes: 8192 };
        assert_eq!(
            by_blocks(blocks(1000), &server(150_000), 3),
            [
                Part::Blocks { from: 0, to: Some(333) },
                Part::Blocks { from: 333, to: Some(666) },
                Part::Blocks { from: 666, to: None },
            ]
        );
        assert_eq!(by_blocks(blocks(100), &server(150_000), 3), [Part::Whole], "too small");
        assert_eq!(by_blocks(blocks(100_000), &server(130_000), 3), [Part::Whole], "too old");
    }

    #[test]
    fn bounds_are_taken_at_even_weights() {
        let of = |weights: &[f64], parts| {
            evenly(weights.iter().enumerate().map(|(bound, weight)| (bound.to_string(), *weight)).collect(), parts)
        };
        assert_eq!(of(&[1.0; 100], 4), ["25", "50", "75"]);
        assert_eq!(of(&[1.0; 100], 1), [""; 0]);
        assert_eq!(of(&[1.0; 3], 10), ["1", "2"], "fewer than there should be");
        assert_eq!(of(&[0.5, 0.1, 0.1, 0.1, 0.1, 0.1], 2), ["1"], "half of the rows have one value");
        assert_eq!(of(&[], 4), [""; 0]);
    }

    #[test]
    fn conditions_say_where_null_belongs() {
        let range = |from: Option<&str>, to: Option<&str>| {
            let owned = |bound: Option<&str>| bound.map(str::to_owned);
            Part::Range { column: "a".into(), cast: "int4".into(), from: owned(from), to: owned(to) }.condition()
        };
        assert_eq!(range(None, Some("5")).unwrap(), r#"("a" < '5'::int4 OR "a" IS NULL)"#);
        assert_eq!(range(Some("5"), None).unwrap(), r#"("a" >= '5'::int4)"#);
        let values = Part::Values { column: "a".into(), cast: "text".into(), values: vec!["x'".into()], nulls: true };
        assert_eq!(values.condition().unwrap(), r#"("a" IN ('x'''::text) OR "a" IS NULL)"#);
    }
}
