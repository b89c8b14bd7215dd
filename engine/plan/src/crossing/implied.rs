//! Derives single-column predicates from a disjunction. `(a = 1 and b = 2) or (a = 3 and b = 4)` needs both columns, so
//! it can only be checked above their join; the implied `a = 1 or a = 3` can be pushed down to the scan of `a`.

use polars_plan::dsl::{BooleanFunction, Expr, FunctionExpr, Operator};
use polars_utils::pl_str::PlSmallStr;

/// Leave filters with more alternatives alone.
const MAX_ALTERNATIVES: usize = 64;

/// The implied predicates over one column each, if any.
pub fn implied(predicate: &Expr) -> Option<Expr> {
    let mut all = Vec::new();
    split(predicate, Operator::And, &mut all);
    all.into_iter().filter_map(of_alternatives).reduce(Expr::and)
}

fn of_alternatives(predicate: &Expr) -> Option<Expr> {
    let mut alternatives = Vec::new();
    split(predicate, Operator::Or, &mut alternatives);
    if !(2..=MAX_ALTERNATIVES).contains(&alternatives.len()) {
        return None;
    }
    let alternatives: Vec<Vec<(PlSmallStr, Expr)>> = alternatives.into_iter().map(by_column).collect();
    let columns = alternatives.first()?.iter().map(|(column, _)| column);
    let is_in_all = |column: &&PlSmallStr| alternatives.iter().all(|of| of.iter().any(|(name, _)| name == *column));
    let about = |column: &PlSmallStr| {
        let of = |alternative: &Vec<(PlSmallStr, Expr)>| {
            let found = alternative.iter().find(|(name, _)| name == column);
            found.map(|(_, predicate)| predicate.clone())
        };
        alternatives.iter().filter_map(of).reduce(Expr::or)
    };
    columns.filter(is_in_all).filter_map(about).reduce(Expr::and)
}

/// The single-column conditions of an alternative, combined by column.
fn by_column(alternative: &Expr) -> Vec<(PlSmallStr, Expr)> {
    let mut conditions = Vec::new();
    split(alternative, Operator::And, &mut conditions);
    let mut found: Vec<(PlSmallStr, Expr)> = Vec::new();
    for condition in conditions {
        let Some(column) = column_of(condition) else { continue };
        match found.iter_mut().find(|(name, _)| *name == column) {
            Some((_, known)) => *known = known.clone().and(condition.clone()),
            None => found.push((column, condition.clone())),
        }
    }
    found
}

fn split<'a>(predicate: &'a Expr, by: Operator, parts: &mut Vec<&'a Expr>) {
    match predicate {
        Expr::BinaryExpr { left, op, right } if *op == by || *op == logical(by) => {
            split(left, by, parts);
            split(right, by, parts);
        }
        _ => parts.push(predicate),
    }
}

fn logical(op: Operator) -> Operator {
    match op {
        Operator::And => Operator::LogicalAnd,
        Operator::Or => Operator::LogicalOr,
        other => other,
    }
}

/// The column of a condition that only compares one column with literals, which cannot fail on any row.
fn column_of(condition: &Expr) -> Option<PlSmallStr> {
    let mut columns = Vec::new();
    compares(condition, &mut columns).then_some(())?;
    let first = columns.first()?.clone();
    columns.iter().all(|column| *column == first).then_some(first)
}

fn compares(expr: &Expr, columns: &mut Vec<PlSmallStr>) -> bool {
    match expr {
        Expr::Column(name) => {
            columns.push(name.clone());
            true
        }
        Expr::Literal(_) => true,
        Expr::BinaryExpr { left, op, right } => {
            (op.is_comparison() || op.is_bitwise()) && compares(left, columns) && compares(right, columns)
        }
        Expr::Function { input, function: FunctionExpr::Boolean(function) } => {
            let known = matches!(
                function,
                BooleanFunction::IsIn { .. }
                    | BooleanFunction::IsBetween { .. }
                    | BooleanFunction::IsNull
                    | BooleanFunction::IsNotNull
                    | BooleanFunction::Not
            );
            known && input.iter().all(|input| compares(input, columns))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    use super::implied;

    fn check(predicate: Expr, expected: Option<Expr>) {
        assert_eq!(implied(&predicate), expected, "{predicate}");
    }

    #[test]
    fn each_column_of_all_alternatives_is_one_of_its_values() {
        let (a, b, c) = (|| col("a"), || col("b"), || col("c"));
        let first = || a().eq(lit(1)).and(b().eq(lit(2)));
        let second = || a().eq(lit(3)).and(b().gt(lit(4)).and(b().lt(lit(9))));
        let of_a = || a().eq(lit(1)).or(a().eq(lit(3)));
        let of_b = || b().eq(lit(2)).or(b().gt(lit(4)).and(b().lt(lit(9))));
        check(first().or(second()), Some(of_a().and(of_b())));
        check(c().gt(lit(0)).and(first().or(second())), Some(of_a().and(of_b())));
        // An alternative without a condition on a column allows any value of it.
        check(first().or(a().eq(lit(3)).and(c().eq(lit(1)))), Some(of_a()));
        check(first().or(c().eq(lit(1))), None);
        check(first(), None);
        // Conditions over two columns are left to the join; conditions that may fail are not moved.
        check(a().eq(b()).or(a().eq(c())), None);
        check(a().strict_cast(DataType::Int8).eq(lit(1)).or(a().strict_cast(DataType::Int8).eq(lit(3))), None);
    }

    #[test]
    fn no_row_is_lost() {
        let values = [Some(1i64), Some(2), Some(3), None];
        let pairs: Vec<_> = values.iter().flat_map(|a| values.iter().map(move |b| (*a, *b))).collect();
        let frame = df!(
            "a" => pairs.iter().map(|pair| pair.0).collect::<Vec<_>>(),
            "b" => pairs.iter().map(|pair| pair.1).collect::<Vec<_>>()
        );
        let frame = frame.unwrap().lazy();
        let predicates = [
            col("a").eq(lit(1)).and(col("b").is_null()).or(col("a").is_null().and(col("b").eq(lit(3)))),
            col("a").eq(lit(1)).and(col("b").eq(lit(2))).or(col("a").neq(lit(1)).and(col("b").gt(lit(1)))),
            (col("a").gt(lit(1)).and(col("b").eq(lit(2))))
                .or(col("a").is_null().and(col("b").eq(lit(1)).or(col("a").is_null()))),
        ];
        for predicate in predicates {
            let more = implied(&predicate).unwrap();
            let whole = frame.clone().filter(predicate.clone()).collect().unwrap();
            let both = frame.clone().filter(predicate.clone().and(more)).collect().unwrap();
            assert!(both.equals_missing(&whole), "{predicate}: {both} {whole}");
        }
    }
}
