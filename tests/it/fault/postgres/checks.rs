//! What holds in every cell of the table, and what depends on the moment and the fault.

use std::collections::BTreeMap;

use futures_util::TryStreamExt;
use rowmill::model::EndedAs;
use rowmill::{Batch, RowView, Status};
use sha2::Digest;

use super::scene::{Fault, Moment, ROWS, Scene};
use super::worker::{FAILS, HALTS, result};
use crate::support::s3::PREFIX;
use crate::support::servers::Database;
use crate::support::{Harness as _, invariants};

impl Scene {
    /// Looks at everything; without a fault it was an undisturbed run.
    pub(super) async fn is_whole(&self, batch: &Batch, fault: Option<Fault>) {
        let rows: Vec<RowView> = self
            .client()
            .rows(self.id, None)
            .try_collect()
            .await
            .unwrap();
        self.each_row_has_its_outcome(batch, &rows);
        self.the_row_that_met_it_is_told(fault, &rows);
        self.the_file_is_as_ever(batch, &rows);
        self.effects_are_at_least_once(&rows);
        self.nothing_was_charged(fault);
        self.the_end_was_told(batch, fault);
        // No row has two outcomes, nothing is left in the queue, and what is stored says the same.
        invariants(&self.store).await;
    }

    fn each_row_has_its_outcome(&self, batch: &Batch, rows: &[RowView]) {
        assert!(batch.done, "{batch:?}");
        let lines: Vec<u32> = rows.iter().map(|row| row.line.0).collect();
        assert!(lines.into_iter().eq(1..=ROWS), "each line once");
        let starts = self.job.starts();
        let mut counts = BTreeMap::new();
        for row in rows {
            let line = row.line.0;
            *counts.entry(row.status).or_insert(0_u64) += 1;
            if row.status == Status::Aborted {
                assert_eq!(self.moment, Moment::WhileAborted, "line {line}");
                // What may have taken effect says so.
                let told = row.messages.as_ref().map_or("", |m| m.get());
                let began = starts.contains_key(&line);
                assert!(
                    !began || told.contains("interrupted"),
                    "line {line}: {told}"
                );
                continue;
            }
            assert!(starts.contains_key(&line), "line {line} never ran");
            let fails = line.is_multiple_of(FAILS);
            let wanted = [Status::Success, Status::Failed][usize::from(fails)];
            assert_eq!(row.status, wanted, "line {line}: {:?}", row.messages);
            let came_to = row.result.as_ref().map(|r| r.get().to_owned());
            let wanted = (!fails).then(|| format!("\"{}\"", result(line)));
            assert_eq!(came_to, wanted, "line {line}");
        }
        let count = |status| counts.get(&status).copied().unwrap_or(0);
        let c = batch.counts;
        assert_eq!([c.rows, c.pending, c.expired], [ROWS.into(), 0, 0]);
        let ended = [Status::Success, Status::Failed, Status::Aborted].map(count);
        assert_eq!([c.success, c.failed, c.aborted], ended);
        let wanted = match self.moment {
            Moment::WhileAborted => Status::Aborted,
            _ => Status::Failed,
        };
        assert_eq!(batch.status, wanted);
    }

    /// What the table says of the one row at which the worker halted.
    fn the_row_that_met_it_is_told(&self, fault: Option<Fault>, rows: &[RowView]) {
        let died = fault.is_some_and(Fault::is_death);
        let row = rows.iter().find(|row| row.line.0 == HALTS).expect("a row");
        match self.moment {
            // Who is cut off for a moment is told when it is back, and records what finished.
            Moment::WhileAborted => assert_eq!(row.status == Status::Aborted, died, "{row:?}"),
            // Nobody knows of the effect of one who died: it is there twice.
            Moment::AfterEffect => {
                let key = format!("{}/{HALTS}", self.id);
                let sql = format!("select count(*) from public.effects where key = '{key}'");
                let effects: i64 = Database::rows_at(self.store.url(), &sql)[0].get(0);
                assert_eq!(effects, 1 + i64::from(died));
            }
            _ => {}
        }
    }

    /// One object, with the bytes of an undisturbed run: a line of each row that ended by itself, in line order.
    fn the_file_is_as_ever(&self, batch: &Batch, rows: &[RowView]) {
        let ended = rows.iter().filter(|row| row.status != Status::Aborted);
        let wanted: String = ended.map(|row| self.job.output(row.line.0)).collect();
        assert_eq!(self.s3.uploads(), 0, "uploads that nobody ended");
        let keys: Vec<&str> = batch.files.iter().map(|file| file.key.as_str()).collect();
        assert_eq!(self.s3.keys(), keys, "nothing is staged");
        let [file] = batch.files.as_slice() else {
            assert!(wanted.is_empty() && batch.files.is_empty(), "{batch:?}");
            return;
        };
        let found = std::fs::read_to_string(self.s3.bucket().join(PREFIX).join(&file.key));
        assert!(found.expect("an object") == wanted, "its bytes");
        let hash = sha2::Sha256::digest(&wanted);
        let hash: String = hash.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(file.sha256, hash);
    }

    fn effects_are_at_least_once(&self, rows: &[RowView]) {
        let found = "select key, count(*) from public.effects group by key";
        let found = Database::rows_at(self.store.url(), found);
        let found: BTreeMap<String, i64> = found.iter().map(|r| (r.get(0), r.get(1))).collect();
        let starts = self.job.starts();
        for row in rows.iter().filter(|row| row.status != Status::Aborted) {
            let effects = found.get(&format!("{}/{}", self.id, row.line.0));
            let effects = effects.copied().unwrap_or(0);
            let most = i64::from(starts[&row.line.0]);
            assert!((1..=most).contains(&effects), "line {}", row.line.0);
        }
    }

    /// A worker that lives pays for nothing: no loss is charged and no row runs twice. One that died has run
    /// what it had not recorded.
    fn nothing_was_charged(&self, fault: Option<Fault>) {
        let facts = self.store.facts();
        let parts = facts.parts.iter();
        let lost = parts.filter(|part| part.ended_as == Some(EndedAs::Lost));
        let lost = lost.count();
        let most = self.job.starts().into_values().max().expect("rows");
        let died = fault.is_some_and(Fault::is_death);
        let had_rows = match self.moment {
            Moment::BeforeClose
            | Moment::WithinUpload
            | Moment::AfterUpload
            | Moment::WhileTold
            | Moment::Assembled
            | Moment::Closed
            | Moment::BeforeTold
            | Moment::Told
            // Its rows end with it.
            | Moment::WhileAborted => false,
            Moment::AfterClaim | Moment::WithinRow | Moment::AfterEffect | Moment::AtCommit => true,
        };
        if died && had_rows {
            assert!(most <= 2, "a row ran {most} times for one death");
        } else {
            assert_eq!((lost, most), (0, 1), "losses, and how often a row ran");
        }
    }

    fn the_end_was_told(&self, batch: &Batch, fault: Option<Fault>) {
        let told = self.job.told();
        let (statuses, events): (Vec<&str>, Vec<&str>) =
            told.iter().filter_map(|told| told.split_once(' ')).unzip();
        let times = self.times_told(fault);
        assert_eq!(statuses, vec![batch.status.as_str(); times]);
        assert_eq!(events, vec![events[0]; times], "one end has one event's id");
    }
}
