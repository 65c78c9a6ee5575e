//! PostgreSQL's own parser as a judge: walks the whole parse tree of a text and says whether it can only read. It shares
//! no rule with the classifier but what the catalog says of names.

use std::collections::HashSet;
use std::sync::OnceLock;

use serde_json::Value;

use crate::corpus;

/// Names by what the catalog says of them.
struct Names {
    safe_functions: HashSet<&'static str>,
    safe_operators: HashSet<&'static str>,
    unsafe_attributes: HashSet<&'static str>,
    unsafe_names: HashSet<&'static str>,
}

/// Words of the grammar that might name a function: in this catalog none does, so the server refuses the call.
const NO_SUCH_FUNCTION: &str = "by columns cube escape filter join materialized nested of operator over passing rollup sets \
     similar varying zone";

const NOT_IN_RECOVERY: [&str; 4] =
    ["txid_current", "pg_current_xact_id", "pg_walfile_name", "pg_walfile_name_offset"];

fn names() -> &'static Names {
    static NAMES: OnceLock<Names> = OnceLock::new();
    NAMES.get_or_init(|| {
        let rows = corpus::rows();
        let of = |kind, is_unsafe| rows.iter().filter(move |r| r.0 == kind && r.2 == is_unsafe).map(|r| r.1);
        let bad: HashSet<_> = of("function", true).collect();
        Names {
            safe_functions: of("function", false)
                .filter(|name| !bad.contains(name))
                .chain(NO_SUCH_FUNCTION.split(' '))
                .filter(|name| !name.contains("_to_xml") && !NOT_IN_RECOVERY.contains(name))
                .collect(),
            safe_operators: of("operator", false).collect(),
            unsafe_attributes: of("attribute", true).collect(),
            unsafe_names: of("name", true).collect(),
        }
    })
}

/// Whether every statement of a text only reads. `Err`: PostgreSQL refuses it.
pub fn reads(text: &str) -> Result<bool, String> {
    let parsed = pg_query::parse(text, 0).map_err(|error| error.to_string())?;
    let tree = serde_json::to_value(&parsed.protobuf).unwrap();
    let statements = tree["stmts"].as_array().unwrap();
    Ok(!statements.is_empty()
        && statements.iter().all(|one| {
            let node = &one["stmt"]["node"];
            let kind = node.as_object().unwrap().keys().next().unwrap().as_str();
            ["SelectStmt", "ExplainStmt", "VariableShowStmt"].contains(&kind) && only_reads(node)
        }))
}

fn only_reads(value: &Value) -> bool {
    match value {
        Value::Array(all) => all.iter().all(only_reads),
        Value::Object(fields) => fields.iter().all(|(key, value)| field(key, value) && only_reads(value)),
        _ => true,
    }
}

/// A field of a node, or a node by its kind.
fn field(key: &str, value: &Value) -> bool {
    let names = names();
    let last = |value: &Value| strings(value).last().copied().unwrap_or_default().to_owned();
    match key {
        _ if value.is_null() => true,
        "SelectStmt" | "VariableShowStmt" => true,
        "ExplainStmt" => {
            !strings_of_options(&value["options"]).iter().any(|o| ["analyze", "analyse"].contains(o))
        }
        _ if key.ends_with("Stmt") => false,
        "into_clause" => false,
        "locking_clause" => value.as_array().is_some_and(Vec::is_empty),
        "FuncCall" | "func" if value.get("funcname").is_some() => {
            names.safe_functions.contains(last(&value["funcname"]).as_str())
        }
        // Kinds 1 to 3 are `a op b`, `a op ANY (…)`, `a op ALL (…)`; the others are written with words.
        "AExpr" if value["kind"].as_i64().is_some_and(|kind| (1..=3).contains(&kind)) => {
            names.safe_operators.contains(last(&value["name"]).as_str())
        }
        "oper_name" | "use_op" => {
            strings(value).last().is_none_or(|name| names.safe_operators.contains(name))
        }
        "RangeTableSample" => false,
        "relation" | "RangeVar" if value.get("relname").is_some() => {
            !names.unsafe_names.contains(value["relname"].as_str().unwrap_or_default())
        }
        "TypeName" | "type_name" => !names.unsafe_names.contains(last(&value["names"]).as_str()),
        "ColumnRef" => {
            strings(&value["fields"]).iter().skip(1).all(|name| !names.unsafe_attributes.contains(name))
        }
        "AIndirection" => {
            strings(&value["indirection"]).iter().all(|name| !names.unsafe_attributes.contains(name))
        }
        _ => true,
    }
}

/// The names in a list of nodes.
fn strings(list: &Value) -> Vec<&str> {
    let nodes = list.as_array().map(Vec::as_slice).unwrap_or_default();
    nodes.iter().filter_map(|node| node["node"]["String"]["sval"].as_str()).collect()
}

fn strings_of_options(list: &Value) -> Vec<&str> {
    let nodes = list.as_array().map(Vec::as_slice).unwrap_or_default();
    nodes.iter().filter_map(|node| node["node"]["DefElem"]["defname"].as_str()).collect()
}
