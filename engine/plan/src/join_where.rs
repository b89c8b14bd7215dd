//! Left and right joins with conditions (`join_where(how="left")`, Polars 1.44 and later). The engine's Polars reads them and
//! makes inner joins of them without a word. So an inner join finds the pairs that meet the conditions, and the rows without
//! a pair are added by their row number.

use std::sync::Arc;

use polars::prelude::*;
use polars_plan::dsl::DslPlan;
use polars_plan::prelude::col;

use super::inputs::inputs_mut;
use super::versions::Client;
use floe_polars::polars_error;
use floe_wire::error::{QueryError, Result};

const ROW: &str = "__floe_row";

/// Replaces all such joins in a plan.
pub fn replace(plan: DslPlan, client: Client) -> Result<DslPlan> {
    // Older releases have no kinds.
    match client >= Client::V1_44 && any(&plan) {
        true => replaced(plan, client),
        false => Ok(plan),
    }
}

fn replaced(mut plan: DslPlan, client: Client) -> Result<DslPlan> {
    for input in inputs_mut(&mut plan) {
        *input = replaced(std::mem::take(input), client)?;
    }
    match side(&plan) {
        None => Ok(plan),
        Some(JoinType::Left) => with_unpaired(plan, false),
        Some(JoinType::Right) if client >= Client::V2_1 => with_unpaired(plan, true),
        Some(how) => {
            let name = how.to_string().to_uppercase();
            let message = format!("'{name}' join is not supported with non-equi join conditions");
            Err(QueryError::user("InvalidOperationError", message))
        }
    }
}

fn any(plan: &DslPlan) -> bool {
    let mut open = vec![plan];
    while let Some(plan) = open.pop() {
        if side(plan).is_some() {
            return true;
        }
        open.extend(super::inputs::inputs(plan));
    }
    false
}

/// How a join with conditions is done, if not as an inner join.
fn side(plan: &DslPlan) -> Option<&JoinType> {
    match plan {
        DslPlan::Join { predicates, options, .. } if !predicates.is_empty() => {
            Some(&options.args.how).filter(|how| !matches!(how, JoinType::Inner))
        }
        _ => None,
    }
}

fn with_unpaired(plan: DslPlan, of_right: bool) -> Result<DslPlan> {
    let DslPlan::Join { input_left, input_right, left_on, right_on, predicates, mut options } = plan else {
        return Ok(plan);
    };
    Arc::make_mut(&mut options).args.how = JoinType::Inner;
    let suffix = options.args.suffix().clone();
    let [mut left, mut right] = [input_left, input_right].map(|input| LazyFrame::from(Arc::unwrap_or_clone(input)));
    let left_names = left.collect_schema().map_err(polars_error)?;
    let kept = if of_right { &mut right } else { &mut left };
    let numbered = kept.clone().with_row_index(ROW, None).cache();
    *kept = numbered.clone();
    let [input_left, input_right] = [left, right].map(|side| Arc::new(side.logical_plan));
    let pairs = DslPlan::Join { input_left, input_right, left_on, right_on, predicates, options };
    let pairs = LazyFrame::from(pairs).cache();
    let mut unpaired = rows_without_pair(numbered, &pairs, ROW);
    if of_right {
        // The result has the right side's columns under other names where the left side has them, too.
        let renamed = |name: &PlSmallStr| match left_names.contains(name) {
            true => col(name.clone()).alias(PlSmallStr::from_string(format!("{name}{suffix}"))),
            false => col(name.clone()),
        };
        let names = unpaired.collect_schema().map_err(polars_error)?;
        unpaired = unpaired.select(names.iter_names().map(renamed).collect::<Vec<_>>());
    }
    Ok(concat(vec![pairs, unpaired])?.drop(by_name([ROW], true, false)).logical_plan)
}

/// The rows of one side that are in none of the pairs, by their row number.
pub fn rows_without_pair(side: LazyFrame, pairs: &LazyFrame, row: &str) -> LazyFrame {
    side.join(pairs.clone().select([col(row)]), [col(row)], [col(row)], JoinArgs::new(JoinType::Anti))
}

/// All rows of the parts, in any order; columns that a part lacks are null.
pub fn concat(parts: Vec<LazyFrame>) -> Result<LazyFrame> {
    let args = UnionArgs { rechunk: false, maintain_order: false, ..UnionArgs::default() };
    concat_lf_diagonal(parts, args).map_err(polars_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side_of(name: &str, values: &[i64]) -> LazyFrame {
        df!["n" => values, name => values].unwrap().lazy()
    }

    fn joined(how: JoinType, client: Client) -> Result<DataFrame> {
        let join = side_of("a", &[1, 2, 3, 3]).join_builder().with(side_of("b", &[2, 5])).how(how);
        let plan = join.join_where(vec![col("n").gt(col("n_right")), col("b").lt(lit(9))]).logical_plan;
        let order = ["n", "n_right"];
        let options = SortMultipleOptions::default().with_nulls_last(true);
        LazyFrame::from(replace(plan, client)?).sort(order, options).collect().map_err(polars_error)
    }

    #[test]
    fn rows_without_a_pair_are_kept() {
        let left = joined(JoinType::Left, Client::V1_44).unwrap();
        let (three, two) = ([Some(3i64), Some(3), None, None], [Some(2i64), Some(2), None, None]);
        let want = df!["n" => [3i64, 3, 1, 2], "a" => [3i64, 3, 1, 2], "n_right" => two, "b" => two].unwrap();
        let order = |df: &DataFrame| df.sort(["n", "a"], SortMultipleOptions::default()).unwrap();
        assert!(order(&left).equals_missing(&order(&want)), "{left}");
        let right = joined(JoinType::Right, Client::V2_1).unwrap();
        let (three, pairs) = ([three[0], three[1], None], [2i64, 2, 5]);
        let want = df!["n" => three, "a" => three, "n_right" => pairs, "b" => pairs].unwrap();
        assert!(right.equals_missing(&want), "{right}");
        assert_eq!(joined(JoinType::Inner, Client::V2_1).unwrap().height(), 2);
    }

    #[test]
    fn joins_that_the_client_refuses_are_refused() {
        for (how, client) in
            [(JoinType::Right, Client::V2_0), (JoinType::Full, Client::V2_1), (JoinType::Cross, Client::V2_1)]
        {
            let error = joined(how, client).unwrap_err();
            assert_eq!(error.class, "InvalidOperationError");
            assert!(error.message.contains("join is not supported with non-equi join conditions"), "{error}");
        }
    }
}
