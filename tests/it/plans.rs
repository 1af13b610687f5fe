//! How PostgreSQL finds what statements ask for, whatever it knows of the tables: empty ones, a large load that nobody
//! has looked at yet, a long queue, one that was worked off when it was last looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;

use serde::Deserialize;
use tokio_postgres::Client;
use tokio_postgres::types::{FromSql, Type};

use crate::support::{Harness as _, Postgres};

/// Statements that are made for each submit, task, end, poll, page of rows, beat or tick.
const HOT: &str = "
    append_batch append_begin append_count append_done append_known append_latest append_open append_piece
    batch_begun batch_files batch_get batch_guard batch_lock batch_open batch_progress batch_rejected batch_running batch_share batch_started
    beat bundle_add bundle_end bundle_held bundle_lock bundle_loosen bundle_oldest bundle_ready bundle_record bundle_take claim_batch claim_block claim_heads claim_of claim_of_all claim_oldest claim_oldest_all claim_oldest_from claim_ready claim_ready_all claim_ready_from claim_running claim_task
    close_any close_claim close_end close_file close_later close_outcomes close_ready dead
    end_batch end_counts end_drop_close end_has_files end_notice end_open_rows end_single end_single_notice end_wake_close
    entered external_find give_back give_back_begun heads heads_of history_blocks history_parts history_tasks
    keep_appends keep_due_expiry keep_due_notice keep_due_task keep_ended keep_expire keep_giving keep_loads keep_wake live_ops mark
    notice_again notice_claim notice_delivered notice_ready op_find op_get op_lock op_make op_notify
    outcome_blocks piece query_parts queue_add record_end record_goes_on record_known record_part record_progress record_task record_whole
    release_base release_given release_partial release_state release_turn release_whole
    rows_at rows_block rows_line rows_next_ended rows_next_open rows_parts rows_tasks
    submit_batch submit_block submit_bundled submit_claimed submit_external submit_finish submit_free submit_loaded submit_op submit_rejected submit_there submit_whole
    take_over_close take_over_done take_over_notices take_over_part take_over_requeue take_over_seen take_over_tasks
    worker_alive worker_enter worker_leave worker_list worker_lock worker_serves worker_serves_none";
/// Those of a person, of a retry or an abort, of a purge: they may sort what they have found, and read a table of ops or workers.
const SELDOM: &str = "
    abort_mark audit_add audit_op discard_append discard_append_mark discard_attempts discard_batch discard_blocks discard_mark
    catalogue
    doctor_appends doctor_batches doctor_blocks doctor_files doctor_left doctor_newest doctor_next_appends doctor_next_attempts
    doctor_next_blocks doctor_next_files doctor_notice doctor_ops doctor_purging doctor_queue doctor_same doctor_served
    end_own epoch expire_mark forget_batch forget_due forget_external list_batches list_children list_one locks
    op_later op_list op_max_lost op_oldest op_queued op_running op_state op_workers pause_op
    purge_appends purge_attempts purge_blocks purge_end purge_files purge_keeps purge_mark purge_notices purge_state purgeable purging
    redact_block redact_part redact_parts resume_op retry_children retry_guard retry_parent server session set_op
    stop_all_given stop_partial stop_tasks stop_tasks_end stop_ungiven worker_end worker_list_all worker_ops";
/// What has no plan.
const NO_PLAN: &str = "copy_batches copy_blocks copy_bundled copy_queue grants plans";

/// Tables that grow with what is submitted.
const GROWING: [&str; 9] = [
    "appends",
    "attempts",
    "audit",
    "batches",
    "blocks",
    "external_ids",
    "files",
    "notices",
    "queue",
];
/// Partial indexes of what is in hand at the moment, which may be read from end to end; `batches_expire` is read from its first entry.
const SHORT: [&str; 7] = [
    "appends_open",
    "batches_expire",
    "batches_giving",
    "batches_purging",
    "queue_closable",
    "queue_close",
    "queue_owner",
];
/// Sorts of the parts of some blocks, of the retries of one batch, of a bounded piece.
const SORTS: [&str; 12] = [
    "bundle_oldest",
    "bundle_ready",
    "close_outcomes",
    "doctor_files",
    "forget_due",
    "history_parts",
    "list_children",
    "piece",
    "purge_attempts",
    "purge_notices",
    "retry_children",
    "rows_parts",
];
/// What a person asks for once in a while: the first records in the order of a key, or one statement for a tombstone.
const FROM_ITS_END: [&str; 6] = [
    "doctor_files",
    "doctor_newest",
    "doctor_notice",
    "forget_external",
    "list_children",
    "purge_notices",
];

fn words(text: &'static str) -> BTreeSet<&'static str> {
    text.split_whitespace().collect()
}

/// The files of both folders; `beat` is in either.
fn statements() -> BTreeMap<String, Vec<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for folder in ["postgres", "postgres_alone"] {
        for entry in std::fs::read_dir(root.join(folder)).expect("a folder of SQL") {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().expect("a name").to_string_lossy();
            let text = std::fs::read_to_string(&path).expect("readable");
            found.entry(name.into_owned()).or_default().push(text);
        }
    }
    found
}

#[test]
fn every_statement_of_postgresql_is_hot_or_seldom() {
    let (hot, seldom, none) = (words(HOT), words(SELDOM), words(NO_PLAN));
    assert!(hot.is_disjoint(&seldom), "one of them is both");
    let known: BTreeSet<&str> = hot.into_iter().chain(seldom).chain(none).collect();
    let files = statements();
    let files: BTreeSet<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(known, files);
}

/// A step of a plan.
#[derive(Deserialize)]
struct Node {
    #[serde(rename = "Node Type")]
    kind: String,
    #[serde(rename = "Relation Name")]
    table: Option<String>,
    #[serde(rename = "Index Name")]
    index: Option<String>,
    #[serde(rename = "Index Cond")]
    condition: Option<String>,
    #[serde(default, rename = "Plans")]
    plans: Vec<Node>,
}

impl Node {
    fn all(&self) -> Vec<&Self> {
        let below = self.plans.iter().flat_map(Self::all);
        std::iter::once(self).chain(below).collect()
    }

    /// What is wrong with this step.
    fn wrong(&self, name: &str, first: &BTreeMap<String, String>) -> Option<String> {
        let table = self.table.as_deref().unwrap_or_default();
        let index = self.index.as_deref().unwrap_or_default();
        let grows =
            GROWING.contains(&table) || GROWING.iter().any(|t| index.starts_with(&format!("{t}_")));
        // By its later columns an index is read from end to end as well.
        let by_key = first.get(index).is_some_and(|column| {
            let condition = self.condition.as_deref().unwrap_or_default();
            [" ", ","]
                .iter()
                .any(|end| condition.contains(&format!("({column}{end}")))
        });
        let is_whole = !by_key && !SHORT.contains(&index);
        let wrong = match self.kind.as_str() {
            "Seq Scan" => grows,
            "Index Scan" | "Index Only Scan" | "Bitmap Index Scan" => {
                grows && is_whole && !FROM_ITS_END.contains(&name)
            }
            "Sort" | "Incremental Sort" => !SORTS.contains(&name) && !words(SELDOM).contains(name),
            "Hash Join" | "Merge Join" => true,
            _ => false,
        };
        wrong.then(|| format!("{} {table} {index}", self.kind))
    }
}

#[derive(Deserialize)]
struct Explained {
    #[serde(rename = "Plan")]
    plan: Node,
}

struct Json(String);

impl<'a> FromSql<'a> for Json {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::JSON
    }
}

/// The plan of a prepared statement, which knows none of its parameters.
async fn plan(client: &Client, text: &str, options: &str, params: &str) -> String {
    let prepare = format!("prepare asked as {text}");
    client.batch_execute(&prepare).await.expect("prepared");
    let explain = format!("explain (format json{options}) execute asked{params}");
    let row = client.query_one(&explain, &[]).await.expect("a plan");
    client
        .batch_execute("deallocate asked")
        .await
        .expect("gone");
    row.get::<_, Json>(0).0
}

async fn wrong_plans(client: &Client, when: &str, wrong: &mut Vec<String>) {
    let none = words(NO_PLAN);
    let first =
        "select indexrelid::regclass::text, pg_get_indexdef(indexrelid, 1, true) from pg_index";
    let first = client.query(first, &[]).await.expect("the indexes");
    let first: BTreeMap<String, String> = first.iter().map(|r| (r.get(0), r.get(1))).collect();
    for (name, texts) in statements() {
        for text in texts.iter().filter(|_| !none.contains(name.as_str())) {
            let prepared = client.prepare(text).await.expect("a statement");
            let nulls = vec!["null"; prepared.params().len()].join(", ");
            let nulls = if nulls.is_empty() {
                nulls
            } else {
                format!("({nulls})")
            };
            let json = plan(client, text, "", &nulls).await;
            let explained: Vec<Explained> = serde_json::from_str(&json).expect("a plan");
            let steps = explained.iter().flat_map(|e| e.plan.all());
            wrong.extend(steps.filter_map(|step| {
                Some(format!("{when}: {name}: {}", step.wrong(&name, &first)?))
            }));
        }
    }
}

/// A connection as the store's own are.
async fn connected(h: &Postgres) -> Client {
    let connected = tokio_postgres::connect(h.url(), tokio_postgres::NoTls).await;
    let (client, connection) = connected.expect("a connection");
    tokio::spawn(connection);
    let plans = statements().remove("plans").expect("a file").concat();
    let plans = plans.replace("set local", "set");
    let place = format!("set search_path to rowmill; {plans}");
    client.batch_execute(&place).await.expect("settings");
    client
}

/// A million rows, of which nothing has looked at the tables since.
const LOADED: &str = "
    do $$ declare t text; begin for t in select tablename from pg_tables where schemaname = 'rowmill' loop
        execute format('alter table %I set (autovacuum_enabled = off)', t); end loop; end $$;
    insert into ops (app, op, kind, created_at) select 'app', 'op' || n, 0, to_timestamp(0) from generate_series(1, 100) n;
    insert into batches (id, op, state, priority, context, root, created_by, created_at, rows, blocks, given, first_blocks, last_line)
    values ('00000000-0000-7000-8000-000000000001', 1, 2, 0, 'null', '00000000-0000-7000-8000-000000000001', 'test', to_timestamp(0), 1000000, 1000, 1000, 1000, 1000000);
    insert into blocks (batch, no, first_line, rows, body)
    select '00000000-0000-7000-8000-000000000001', n, n * 1000 + 1, 1000,
           repeat('{\"account\":\"ACC000001\",\"amount\":\"5.00\",\"type\":\"debit\",\"ref\":\"REF-6e3650216217\"}' || chr(10), 1000) from generate_series(0, 999) n;
    insert into queue (batch, id, no, what, op, state, priority, turn, age, rows) select batch, no, no, 0, 1, 1, 0, no, to_timestamp(0), rows from blocks;
    insert into queue (batch, id, no, what, op, state, priority, turn, age, rows)
    values ('00000000-0000-7000-8000-000000000001', 9223372036854775807, -1, 1, 1, 4, 0, 0, to_timestamp(0), 0)";

/// So many small batches of one op, each with a task: `$n` is how many.
const FEW: &str = "
    insert into ops (app, op, kind, created_at) values ('app', 'few', 0, to_timestamp(0)) on conflict do nothing;
    insert into batches (id, op, state, priority, context, root, created_by, created_at, rows, blocks, given, first_blocks, last_line)
    select ('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid, o.id, 2, 0, 'null', ('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid,
           'test', to_timestamp(n), 1, 1, 1, 1, 1 from generate_series(1, $n) n, ops o where o.op = 'few';
    insert into blocks (batch, no, first_line, rows, body) select id, 0, 1, rows, '{}' from batches;
    insert into queue (batch, id, no, what, op, state, priority, turn, age, rows) select id, 0, 0, 0, op, 1, 0, 1, created_at, rows from batches";

/// 10,000,000 rows queued in 100 ops: 10,000 tasks of a thousand rows, 190,000 more of one, and bundles.
const LONG: &str = "
    create temporary table made as
    select ('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid as id, n % 100 + 1 as op, n, case when n <= 10000 then 1000 else 1 end as rows
      from generate_series(1, 200000) n;
    insert into batches (id, op, state, priority, context, root, created_by, created_at, rows, blocks, given, first_blocks, last_line)
    select id, op, 2, 0, 'null', id, 'test', to_timestamp(n), rows, 1, 1, 1, rows from made;
    insert into blocks (batch, no, first_line, rows, body) select id, 0, 1, rows, '{}' from made;
    insert into queue (batch, id, no, what, op, state, priority, turn, age, rows)
    select id, 0, 0, 0, op, 1, 0, n / 100, to_timestamp(n), rows from made;
    insert into queue (batch, id, no, what, op, state, priority, turn, age, rows, members)
    select ('00000000-0000-7000-a000-' || lpad(to_hex(n), 12, '0'))::uuid, 9223372036854775806, -1, 2, n % 100 + 1, 1, -1, n, to_timestamp(n), 1, array[gen_random_uuid()]
      from generate_series(1, 50000) n";

/// Pages that a statement touches, with these parameters; what it changes is undone.
async fn touched(client: &Client, name: &str, params: &str) -> u64 {
    let text = statements().remove(name).expect("a file").concat();
    client.batch_execute("begin").await.expect("begun");
    let json = plan(client, &text, ", analyze, buffers", params).await;
    client.batch_execute("rollback").await.expect("undone");
    let number = |what: &str| {
        let (_, after) = json.split_once(&format!("\"{what}\": ")).expect("a count");
        let end = after.find(|c: char| !c.is_ascii_digit()).expect("more");
        after[..end].parse::<u64>().expect("a number")
    };
    number("Shared Hit Blocks") + number("Shared Read Blocks")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_reads_a_table_that_grows_from_end_to_end_or_sorts_the_queue() {
    let h = Postgres::open().await;
    let client = connected(&h).await;
    let mut wrong = Vec::new();
    wrong_plans(&client, "empty", &mut wrong).await;
    client.batch_execute(LOADED).await.expect("loaded");
    client
        .batch_execute("discard plans")
        .await
        .expect("forgotten");
    wrong_plans(&client, "a load", &mut wrong).await;
    client.batch_execute(LONG).await.expect("submitted");
    client
        .batch_execute("discard plans")
        .await
        .expect("forgotten");
    wrong_plans(&client, "a long queue", &mut wrong).await;
    // An op in the middle, a claim of a hundred tasks; a batch of a thousand tasks among all the others.
    let claim = "(7, 100, 1000000, 4194304, 1, 1, now(), 0)";
    for name in ["claim_ready_all", "claim_oldest_all"] {
        let pages = touched(&client, name, claim).await;
        assert!(pages < 4000, "{name}: {pages} pages for a hundred tasks");
    }
    let batch = "'00000000-0000-7000-8000-000000000001'";
    let of = format!("(1, 10, 1000000, 4194304, 1, 1, now(), 0, {batch})");
    let pages = touched(&client, "claim_of_all", &of).await;
    assert!(
        pages < 500,
        "claim_of_all: {pages} pages for ten tasks of a thousand"
    );
    // From a place behind half of the op's, of which each would be looked at.
    let id = "'00000000-0000-7000-9000-000000000000'";
    let places = [
        ("claim_ready_from", format!("0, 1000, {id}, 0")),
        (
            "claim_oldest_from",
            format!("to_timestamp(100000), {id}, 0, 0"),
        ),
    ];
    for (name, place) in places {
        let claim = format!("(7, 8, 1000000, 4194304, 1, 1, now(), 0, {place})");
        let pages = touched(&client, name, &claim).await;
        assert!(pages < 500, "{name}: {pages} pages for eight tasks");
    }
    // Tasks that stand alone are ahead of all those that stand together.
    for name in ["bundle_ready", "bundle_oldest"] {
        let pages = touched(&client, name, "(7, 11, false)").await;
        assert!(pages < 200, "{name}: {pages} pages for eleven bundles");
    }
    for (name, params) in [("heads", "(7)"), ("heads_of", &format!("(1, {batch})"))] {
        let pages = touched(&client, name, params).await;
        assert!(pages < 20, "{name}: {pages} pages");
    }
    client.batch_execute("analyze").await.expect("looked at");
    client
        .batch_execute("discard plans")
        .await
        .expect("forgotten");
    wrong_plans(&client, "a long queue, looked at", &mut wrong).await;
    // What is worked off leaves its pages behind.
    let worked_off = "delete from queue; update batches set state = 4, nsuccess = rows, nfailed = 0, naborted = 0, nexpired = 0, done_at = now()";
    client.batch_execute(worked_off).await.expect("worked off");
    client
        .batch_execute("vacuum analyze")
        .await
        .expect("looked at");
    client
        .batch_execute("discard plans")
        .await
        .expect("forgotten");
    wrong_plans(&client, "a queue that is worked off, looked at", &mut wrong).await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A plan that is kept is that of the moment when it was made, and what it was made for grows meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_that_was_planned_for_next_to_nothing_reads_what_has_grown_since_from_end_to_end()
 {
    let h = Postgres::open().await;
    let client = connected(&h).await;
    let mut wrong = Vec::new();
    for few in [0, 1, 3, 100, 2000] {
        let set_up = [
            FEW.replace("$n", &few.to_string()),
            "vacuum analyze".to_owned(),
        ];
        for sql in set_up {
            client.batch_execute(&sql).await.expect("set up");
        }
        wrong_plans(&client, &format!("{few}, looked at"), &mut wrong).await;
        for sql in ["delete from queue", "vacuum", "discard plans"] {
            client.batch_execute(sql).await.expect("worked off");
        }
        wrong_plans(&client, &format!("{few} that are worked off"), &mut wrong).await;
        for sql in ["truncate batches, blocks, queue", "discard plans"] {
            client.batch_execute(sql).await.expect("emptied");
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Columns that a batch's end changes, besides those of one that may expire.
const END: [&str; 7] = [
    "state",
    "nsuccess",
    "nfailed",
    "naborted",
    "nexpired",
    "started_at",
    "done_at",
];
/// Indexes of tables that grow that do not begin with the batch, and why: docs/adr/0017.
const OTHERWISE: [(&str, &str); 18] = [
    ("audit_pkey", "in the order of time"),
    ("batches_created", "lists"),
    ("batches_expire", "those that may expire"),
    ("batches_loading", "those that are being loaded"),
    ("batches_of_op", "retention"),
    ("batches_parent", "retries"),
    ("batches_purged", "tombstones"),
    ("external_ids_pkey", "outlives the batch"),
    ("notices_due", "claims"),
    ("notices_owner", "a worker that goes"),
    ("notices_pkey", "the event's id"),
    ("queue_bundles", "claims"),
    ("queue_bundles_oldest", "claims"),
    ("queue_due", "what is due"),
    ("queue_later", "what is due, counted"),
    ("queue_oldest", "claims"),
    ("queue_owner", "what runs"),
    ("queue_ready", "claims"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_what_grows_begin_with_the_batch_and_no_end_changes_an_index() {
    let h = Postgres::open().await;
    let client = connected(&h).await;
    let grows = GROWING.join("', '");
    let sql = format!(
        "select c.relname::text, t.relname::text, (select a.attname::text from pg_attribute a where a.attrelid = t.oid and a.attnum = i.indkey[0]),
                pg_get_indexdef(i.indexrelid)
           from pg_index i join pg_class c on c.oid = i.indexrelid join pg_class t on t.oid = i.indrelid
          where t.relnamespace = 'rowmill'::regnamespace and t.relname in ('{grows}') order by 1"
    );
    let rows = client.query(&sql, &[]).await.expect("the indexes");
    assert!(rows.len() > 20, "they were found");
    let mut otherwise = BTreeSet::new();
    for row in &rows {
        let [index, table, first, definition] = [0, 1, 2, 3].map(|at| row.get::<_, String>(at));
        let key = if table == "batches" { "id" } else { "batch" };
        if first != key {
            otherwise.insert(index.clone());
        }
        let (_, columns) = definition.split_once(" USING ").expect("columns");
        let named: BTreeSet<&str> = columns
            .split(|c: char| !(c.is_ascii_lowercase() || c == '_'))
            .collect();
        let changed = END.iter().find(|column| named.contains(*column));
        assert!(table != "batches" || changed.is_none(), "{definition}");
    }
    let known = OTHERWISE.iter().map(|(index, _)| (*index).to_owned());
    let known: BTreeSet<String> = known.collect();
    assert_eq!(otherwise, known);
}
