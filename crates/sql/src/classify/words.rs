//! The words of PostgreSQL's grammar that matter here (documentation, appendix "SQL Key Words").
//!
//! It only lists. [`super::Volatility`] puts the lists into its table, so that a name costs one look-up.

/// What an unquoted word means to the scanner. Only where it does not follow a dot: after one, any word is a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Word {
    /// No word of the lists: a name. `name (` calls a function.
    #[default]
    Name,
    /// Cannot name a function, so `word (` is syntax.
    Syntax,
    /// May name a function, but `word (` is also syntax of a query: a call only if the catalog has such a function.
    Either,
    /// May name a function, and is a word of the grammar besides.
    Known,
    Analyze,
    As,
    Cast,
    For,
    From,
    Into,
    /// `INSERT`, `UPDATE`, `DELETE`, `MERGE`.
    Modify,
    Recursive,
    /// `SHARE`, `KEY`, `NO`: after `FOR` they lock rows.
    Lock,
    Table,
    /// `TREAT(x AS f)` calls the function `pg_catalog.f`.
    Treat,
    With,
}

/// Every word but plain names, in lower case.
pub(super) const WORDS: &[(Word, &str)] = &[
    // Reserved, or "cannot be function or type name".
    (
        Word::Syntax,
        "all and any array asc asymmetric between bigint bit boolean both case char character coalesce \
         column current_catalog current_date current_role current_time current_timestamp current_user dec decimal default \
         desc distinct else end except exists extract false fetch float greatest group grouping having in int integer \
         intersect interval lateral leading least limit localtime localtimestamp national nchar normalize not null nullif \
         numeric offset on only or order position precision real row select session_user smallint some symmetric then time \
         timestamp trailing trim true union unique user using values varchar when where window xmlattributes xmlconcat \
         xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable",
    ),
    (
        Word::Either,
        "by columns cube escape filter ilike is isnull join like materialized nested notnull of operator over overlaps \
         passing rollup sets similar varying zone",
    ),
    (
        Word::Known,
        "at collate collation cross current day exclude first following full groups hour inner last left minute month \
         natural next nulls ordinality others outer overlay partition pg_catalog preceding range right rows second substring ties to \
         unbounded within without year",
    ),
    (Word::Analyze, "analyze analyse"),
    (Word::As, "as"),
    (Word::Cast, "cast"),
    (Word::For, "for"),
    (Word::From, "from"),
    (Word::Into, "into"),
    (Word::Modify, "insert update delete merge"),
    (Word::Recursive, "recursive"),
    (Word::Lock, "share key no"),
    (Word::Table, "table"),
    (Word::Treat, "treat"),
    (Word::With, "with"),
];

/// Functions that leave something behind in the server's session, and what that is. Names that start with `dblink` and
/// the schema `pg_temp` are the scanner's own.
pub(super) const SESSION_FUNCTIONS: &[(&str, &str)] = &[
    (
        "advisory lock",
        "pg_advisory_lock pg_advisory_lock_shared pg_try_advisory_lock pg_try_advisory_lock_shared pg_advisory_unlock \
         pg_advisory_unlock_shared pg_advisory_unlock_all",
    ),
    ("set_config", "set_config"),
    ("setseed", "setseed"),
    ("sequence state", "currval lastval"),
    (
        "replication session",
        "pg_create_physical_replication_slot pg_create_logical_replication_slot pg_copy_physical_replication_slot \
         pg_copy_logical_replication_slot pg_replication_origin_session_setup pg_replication_origin_session_reset",
    ),
];

/// Stable by declaration, but not fit for a replica: they assign a transaction id or are refused during recovery, or
/// they read relations whose names are data, and so call whatever a view among these calls.
pub(super) const NOT_FOR_REPLICAS: &str = "txid_current pg_current_xact_id pg_walfile_name pg_walfile_name_offset \
     table_to_xml table_to_xml_and_xmlschema schema_to_xml schema_to_xml_and_xmlschema database_to_xml \
     database_to_xml_and_xmlschema";
