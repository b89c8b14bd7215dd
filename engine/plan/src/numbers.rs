//! Refuses casts of numbers to Categorical where the categories are unknown here. Only the process that created the
//! categories knows which number stands for which. A plan works if it takes the numbers from a categorical itself; else
//! the categories stayed with the client, and every value would be null here.

use polars_core::prelude::*;
use polars_plan::plans::expr_ir::ExprIR;
use polars_plan::plans::{
    AExpr, ArenaExprIter, ArenaLpIter, FunctionIR, IR, IRCategoricalFunction as Cat, IRFunctionExpr as Function,
    IRPlan, ToFieldContext,
};
use polars_utils::arena::{Arena, Node};
use polars_utils::pl_str::PlSmallStr;

use floe_wire::error::{QueryError, Result};

pub fn check(plan: &IRPlan) -> Result<()> {
    let origins = Origins { ir: &plan.lp_arena, ex: &plan.expr_arena };
    for (at, ir) in plan.lp_arena.iter(plan.lp_top) {
        for (node, e) in ir.exprs().flat_map(|e| plan.expr_arena.iter(e.node())) {
            if origins.unknown(at, node, e) {
                return Err(refused(&origins.shown(node)));
            }
        }
    }
    Ok(())
}

fn refused(expr: &str) -> QueryError {
    QueryError::user(
        "CategoriesNotInPlan",
        format!(
            "{expr} turns numbers into categories that only the process knows that made them: they are not in the plan. \
             Use an Enum, whose categories travel with the plan, or give the values as text and cast that to Categorical"
        ),
    )
}

struct Origins<'a> {
    ir: &'a Arena<IR>,
    ex: &'a Arena<AExpr>,
}

/// Whether numbers come from categories of this plan; `None` for literals, which do not matter.
type Known = Option<bool>;

impl Origins<'_> {
    /// Whether an expression casts numbers of unknown origin to categories.
    fn unknown(&self, at: Node, node: Node, e: &AExpr) -> bool {
        let input = match e {
            AExpr::Cast { expr, dtype, .. } if has_categories(dtype) => *expr,
            AExpr::Function { input, function: Function::Categorical(Cat::To(dtype, ..)), .. }
                if has_categories(dtype) =>
            {
                let Some(input) = input.first() else { return false };
                input.node()
            }
            _ => return false,
        };
        let numbers = self.dtype(at, input).is_some_and(|dtype| has_numbers(&dtype));
        let made = self.dtype(at, node).is_none_or(|dtype| has_categories(&dtype));
        numbers && made && self.of_expr(at, input) != Some(true)
    }

    fn of_expr(&self, at: Node, node: Node) -> Known {
        let e = self.ex.get(node);
        let mut inputs = Vec::new();
        e.inputs_rev(&mut inputs);
        let of_categories = || {
            let mut dtypes = inputs.iter().filter_map(|input| self.dtype(at, *input));
            dtypes.any(|dtype| has_categories(&dtype)).then_some(true)
        };
        match e {
            AExpr::Literal(_) => None,
            AExpr::Column(name) => Some(self.of_inputs(at, name)),
            AExpr::Function { function: Function::ToPhysical | Function::Categorical(Cat::Physical), .. }
            | AExpr::Cast { .. } => of_categories().or_else(|| self.all(at, &inputs)),
            _ => self.all(at, &inputs),
        }
    }

    fn all(&self, at: Node, exprs: &[Node]) -> Known {
        exprs.iter().filter_map(|e| self.of_expr(at, *e)).reduce(|a, b| a && b)
    }

    /// Origin of the column that a node's expressions read under this name.
    fn of_inputs(&self, at: Node, name: &PlSmallStr) -> bool {
        let mut having = self.ir.get(at).inputs().filter(|input| self.schema(*input).contains(name)).peekable();
        having.peek().is_some() && having.all(|input| self.of_column(input, name))
    }

    /// Origin of an output column of a node.
    fn of_column(&self, at: Node, name: &PlSmallStr) -> bool {
        let named = |exprs: &[ExprIR]| exprs.iter().find(|e| e.output_name() == name).map(ExprIR::node);
        match self.ir.get(at) {
            IR::Select { expr, .. } => named(expr).is_some_and(|e| self.of_expr(at, e) == Some(true)),
            IR::HStack { exprs, .. } => match named(exprs) {
                Some(e) => self.of_expr(at, e) == Some(true),
                None => self.of_inputs(at, name),
            },
            IR::GroupBy { keys, aggs, .. } => {
                named(keys).or_else(|| named(aggs)).is_some_and(|e| self.of_expr(at, e) == Some(true))
            }
            IR::Join { input_right, options, .. } => {
                let suffix = options.args.suffix();
                match name.strip_suffix(suffix.as_str()).map(PlSmallStr::from_str) {
                    Some(of) if self.schema(*input_right).contains(&of) => self.of_column(*input_right, &of),
                    _ => self.of_inputs(at, name),
                }
            }
            IR::MapFunction { function: FunctionIR::RowIndex { name: index, .. }, .. } if index == name => false,
            IR::Scan { .. } | IR::DataFrameScan { .. } => false,
            _ => self.of_inputs(at, name),
        }
    }

    fn schema(&self, node: Node) -> SchemaRef {
        self.ir.get(node).schema(self.ir).into_owned()
    }

    fn dtype(&self, at: Node, e: Node) -> Option<DataType> {
        let mut columns = Schema::default();
        for input in self.ir.get(at).inputs() {
            columns.merge(self.schema(input).as_ref().clone());
        }
        self.ex.get(e).to_dtype(&ToFieldContext::new(self.ex, &columns)).ok()
    }

    fn shown(&self, node: Node) -> String {
        ExprIR::from_node(node, self.ex).display(self.ex).to_string()
    }
}

fn has_categories(dtype: &DataType) -> bool {
    has(dtype, &|dtype| matches!(dtype, DataType::Categorical(..)))
}

fn has_numbers(dtype: &DataType) -> bool {
    has(dtype, &DataType::is_primitive_numeric)
}

fn has(dtype: &DataType, what: &dyn Fn(&DataType) -> bool) -> bool {
    match dtype {
        DataType::List(inner) | DataType::Array(inner, _) => has(inner, what),
        DataType::Struct(fields) => fields.iter().any(|field| has(field.dtype(), what)),
        other => what(other),
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::*;

    fn texts() -> LazyFrame {
        let category = DataType::from_categories(Categories::global());
        df!["t" => ["x", "y", "x"], "n" => [0u32, 1, 0]]
            .unwrap()
            .lazy()
            .with_columns([col("t").cast(category).alias("c")])
    }

    fn outcome(plan: LazyFrame) -> std::result::Result<(), String> {
        crate::optimize(plan.logical_plan).map(drop).map_err(|error| error.class)
    }

    #[test]
    fn numbers_whose_categories_stayed_with_the_client_are_refused() {
        let category = || DataType::from_categories(Categories::global());
        let refused = Err("CategoriesNotInPlan".to_string());
        let numbers = texts().select([col("n")]);
        assert_eq!(outcome(numbers.clone().select([col("n").cast(category())])), refused);
        let sums = numbers.group_by([col("n")]).agg([col("n").sum().alias("s")]);
        assert_eq!(outcome(sums.with_columns([(col("s") + lit(1u32)).cast(category())])), refused);
    }

    #[test]
    fn numbers_from_categories_of_the_plan_are_accepted() {
        let category = || DataType::from_categories(Categories::global());
        let there = texts().with_columns([col("c").to_physical().alias("p")]);
        assert_eq!(outcome(there.clone().select([col("p").cast(category())])), Ok(()));
        let grouped = there.clone().group_by([col("p")]).agg([col("n").sum()]);
        assert_eq!(outcome(grouped.select([col("p").cast(category())])), Ok(()));
        let joined = there.clone().join(there, [col("n")], [col("n")], JoinArgs::new(JoinType::Inner));
        assert_eq!(outcome(joined.select([col("p_right").cast(category())])), Ok(()));
        assert_eq!(outcome(texts().select([col("t").cast(category()), col("c").cast(DataType::String)])), Ok(()));
        let fixed = DataType::from_frozen_categories(FrozenCategories::new(["a", "b"]).unwrap());
        assert_eq!(outcome(texts().select([col("n").cast(fixed)])), Ok(()));
    }
}
