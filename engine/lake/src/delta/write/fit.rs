//! How the columns of rows fit into those of a table.

use super::plan::refused;
use super::schema::{join, same_name, type_name};
use super::widen::{PROPERTY, integer_bytes, may_widen};
use crate::delta::error::no_fit;
use crate::table::{Field, Type};
use crate::write::{EVOLVE, PartitionKey, Request, Target, Transform};
use floe_wire::error::Result;

/// How files are written, or an error with all reasons why the rows do not fit.
///
/// Columns get the whole type of the table's: a struct has the fields that the rows lack as well, which are null.
pub fn target(root: &str, table: &[Field], partition: &[String], request: &Request) -> Result<Target> {
    let mut problems = Vec::new();
    fields(table, &request.columns, "", &mut problems);
    let find = |name: &String| request.columns.iter().position(|column| column.name == *name);
    for name in partition.iter().filter(|name| find(name).is_none()) {
        problems.push(format!("they lack the column \"{name}\", which partitions the table; add it"));
    }
    if !problems.is_empty() {
        problems.dedup();
        return Err(no_fit(root, problems.join("; ")));
    }
    check_partition(root, table, partition, request)?;
    let known = |name: &String| table.iter().find(|field| field.name == *name);
    let columns: Vec<Field> = request.columns.iter().filter_map(|column| known(&column.name).cloned()).collect();
    let stored: Vec<bool> = columns.iter().map(|column| !partition.contains(&column.name)).collect();
    if !stored.contains(&true) {
        return Err(refused(root, "all columns partition it, and none is left for the files; leave one out"));
    }
    let keys: Vec<&Field> = partition.iter().filter_map(known).collect();
    let key = |name: &String| PartitionKey { column: name.clone(), transform: Transform::Identity };
    Ok(Target {
        root: root.to_owned(),
        data: root.to_owned(),
        columns,
        stored,
        partition: partition.iter().map(key).collect(),
        directories: keys.iter().map(|key| key.physical.clone().unwrap_or_else(|| key.name.clone())).collect(),
        partition_types: keys.iter().map(|key| key.dtype.clone()).collect(),
    })
}

fn check_partition(root: &str, table: &[Field], partition: &[String], request: &Request) -> Result<()> {
    if let Some(wanted) = &request.partition
        && !wanted.iter().map(|key| &key.column).eq(partition)
    {
        let wanted: Vec<_> = wanted.iter().map(|key| &key.column).collect();
        return Err(no_fit(root, format!("it is partitioned by {partition:?}, and the rows are to be by {wanted:?}")));
    }
    for (at, name) in partition.iter().enumerate() {
        let Some(field) = table.iter().find(|field| field.name == *name) else { continue };
        if partition[..at].contains(name) {
            return Err(refused(root, &format!("column \"{name}\" partitions it twice")));
        }
        if matches!(field.dtype, Type::Binary | Type::List(_) | Type::Map { .. } | Type::Struct(_)) {
            let what = format!("column \"{name}\" of the type {} cannot partition it", type_name(&field.dtype));
            return Err(refused(root, &format!("{what}; partition by a column of another type")));
        }
    }
    Ok(())
}

/// Compares the columns, or the fields of a struct.
fn fields(table: &[Field], rows: &[Field], parent: &str, problems: &mut Vec<String>) {
    for (at, column) in rows.iter().enumerate() {
        let path = join(parent, &column.name);
        if let Some(twin) = rows[..at].iter().find(|twin| same_name(&twin.name, &column.name)) {
            let twin = &twin.name;
            problems.push(format!("columns \"{twin}\" and \"{path}\" have one name for Delta, which ignores case"));
            continue;
        }
        match table.iter().find(|field| field.name == column.name) {
            Some(field) => compare(field, column, &path, !parent.is_empty(), problems),
            None => {
                problems.push(match table.iter().find(|field| same_name(&field.name, &column.name)) {
                    Some(Field { name, .. }) => {
                        format!("column \"{path}\" differs from the table's \"{name}\" in case only; rename it")
                    }
                    None => {
                        format!("the table has no column \"{path}\"; leave it out, or write {EVOLVE} to add it")
                    }
                });
            }
        }
    }
    for field in table.iter().filter(|field| !field.nullable) {
        if !rows.iter().any(|column| same_name(&column.name, &field.name)) {
            let path = join(parent, &field.name);
            problems.push(format!("they lack the column \"{path}\", which may not be null; add it"));
        }
    }
}

fn compare(table: &Field, rows: &Field, path: &str, is_nested: bool, problems: &mut Vec<String>) {
    // Only for plain columns at the top level are the nulls in files counted.
    let is_counted = !is_nested && !matches!(table.dtype, Type::List(_) | Type::Map { .. } | Type::Struct(_));
    if rows.nullable && !table.nullable && !is_counted {
        problems.push(format!("\"{path}\" may be null in the rows, and not in the table"));
    }
    let inner = |table: &Field, rows: &Field, problems: &mut Vec<String>| {
        compare(table, rows, &join(path, &table.name), true, problems);
    };
    match (&table.dtype, &rows.dtype) {
        (Type::List(table), Type::List(rows)) => inner(table, rows, problems),
        (Type::Map { key, value }, Type::Map { key: row_key, value: row_value }) => {
            // Keys are never null.
            inner(&Field { nullable: true, ..(**key).clone() }, row_key, problems);
            inner(value, row_value, problems);
        }
        (Type::Struct(table), Type::Struct(rows)) => fields(table, rows, path, problems),
        (to, from) if to == from || widens(from, to) => {}
        (to, from) => {
            let help = match may_widen(to, from) {
                // Types of columns that partition the table stay as they are.
                true => format!(
                    "cast it; or, if it does not partition the table, set the table's property {PROPERTY} to true and \
                     write {EVOLVE} to widen it"
                ),
                false => "cast it".to_owned(),
            };
            problems.push(format!(
                "column \"{path}\" is of the type {} in the rows and {} in the table; {help}",
                type_name(from),
                type_name(to)
            ));
        }
    }
}

/// Whether a cast keeps every value.
fn widens(from: &Type, to: &Type) -> bool {
    match (from, to) {
        (Type::Float32, Type::Float64) => true,
        (Type::Decimal { precision: p0, scale: s0 }, Type::Decimal { precision: p1, scale: s1 }) => {
            s1 >= s0 && i16::from(*p1) - i16::from(*s1) >= i16::from(*p0) - i16::from(*s0)
        }
        (from, to) => matches!((integer_bytes(from), integer_bytes(to)), (Some(from), Some(to)) if from <= to),
    }
}
