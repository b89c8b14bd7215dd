//! DESCRIBE, SUMMARIZE, SHOW TABLES: statements that return information about a query instead of its rows.

use polars::prelude::*;
use polars_plan::dsl::{DslPlan, Expr};
use polars_plan::prelude::{col, len, lit};

use floe_polars::polars_error;
use floe_wire::error::Result;

fn lazy(columns: Vec<Column>) -> Result<LazyFrame> {
    let height = columns.first().map_or(0, Column::len);
    Ok(DataFrame::new(height, columns).map_err(polars_error)?.lazy())
}

/// The names of the tables.
pub fn names(names: &[&str]) -> Result<DslPlan> {
    Ok(lazy(vec![Column::new("name".into(), names)])?.logical_plan)
}

/// Lines of text, one per row.
pub fn lines(name: &str, text: &str) -> Result<DslPlan> {
    let lines: Vec<&str> = text.lines().collect();
    Ok(lazy(vec![Column::new(name.into(), lines)])?.logical_plan)
}

/// The names and types of a query's columns.
pub fn columns(mut frame: LazyFrame) -> Result<DslPlan> {
    let schema = frame.collect_schema().map_err(polars_error)?;
    let names: Vec<&str> = schema.iter_names().map(|name| name.as_str()).collect();
    let types: Vec<String> = schema.iter_values().map(|dtype| dtype.to_string()).collect();
    Ok(lazy(vec![Column::new("column_name".into(), names), Column::new("column_type".into(), types)])?.logical_plan)
}

/// Statistics, one row per column. Computes all of them in one pass over the rows, and then splits the single result
/// row.
pub fn summary(mut frame: LazyFrame) -> Result<DslPlan> {
    let schema = frame.collect_schema().map_err(polars_error)?;
    if schema.is_empty() {
        return columns(frame);
    }
    let mut all: Vec<Expr> = vec![];
    let mut rows: Vec<Vec<Expr>> = vec![];
    for (at, (name, dtype)) in schema.iter().enumerate() {
        let column = col(name.clone());
        let number = dtype.is_primitive_numeric() || dtype.is_decimal();
        let ordered = number || dtype.is_temporal() || matches!(dtype, DataType::String | DataType::Boolean);
        let absent = || lit(NULL);
        // NULL is no value, as in COUNT(DISTINCT …).
        let distinct = column.clone().n_unique() - column.clone().null_count().gt(lit(0)).cast(DataType::UInt32);
        let value = if number { column.clone().cast(DataType::Float64) } else { absent() };
        let quantile = |q: f64| if number { value.clone().quantile(lit(q), QuantileMethod::Linear) } else { absent() };
        let figures = [
            ("min", if ordered { column.clone().min() } else { absent() }, DataType::String),
            ("max", if ordered { column.clone().max() } else { absent() }, DataType::String),
            ("unique", if ordered { distinct } else { absent() }, DataType::Int64),
            ("avg", if number { value.clone().mean() } else { absent() }, DataType::Float64),
            ("std", if number { value.clone().std(1) } else { absent() }, DataType::Float64),
            ("q25", quantile(0.25), DataType::Float64),
            ("q50", quantile(0.5), DataType::Float64),
            ("q75", quantile(0.75), DataType::Float64),
            ("count", len(), DataType::Int64),
            ("null_count", column.clone().null_count(), DataType::Int64),
        ];
        let mut row = vec![lit(name.as_str()).alias("column_name"), lit(dtype.to_string()).alias("column_type")];
        for (figure, expr, dtype) in figures {
            let name = format!("{figure}_{at}");
            all.push(expr.cast(dtype).alias(name.as_str()));
            row.push(col(name).alias(figure));
        }
        rows.push(row);
    }
    let figures = frame.select(all).cache();
    let rows: Vec<LazyFrame> = rows.into_iter().map(|row| figures.clone().select(row)).collect();
    let args = UnionArgs { rechunk: false, maintain_order: true, ..UnionArgs::default() };
    Ok(concat(rows, args).map_err(polars_error)?.logical_plan)
}
