//! The fault suite on PostgreSQL with S3: each moment of a batch meets each fault.
//!
//! The table stands in docs/crash.md, a test a cell. A moment is met by a worker that stops itself there (SIGSTOP), or
//! whose commit's answer the proxy holds; then the fault happens, and the worker goes on, or another in its place.

mod checks;
mod finalise;
mod four;
mod rolling;
mod scene;
mod worker;

use std::collections::HashSet;

use scene::{Fault, Moment, Scene};

/// Plays a cell and looks at everything.
async fn plays(moment: Moment, fault: Fault) {
    let mut scene = Scene::new(moment, Some(fault)).await;
    let worker = scene.at_the_moment().await;
    let done = match fault {
        Fault::Killed => {
            drop(worker);
            scene.another_ends_it(fault).await
        }
        Fault::Frozen => {
            worker.signal(libc::SIGSTOP);
            let done = scene.another_ends_it(fault).await;
            scene.cut_if_held();
            worker.signal(libc::SIGCONT);
            scene.has_entered_again();
            worker.ends();
            done
        }
        Fault::CutOff | Fault::Restarted => {
            // Another lives, and takes nothing over.
            let other = scene.other();
            scene.have_entered(2);
            let entered = scene.entered();
            match fault {
                Fault::Restarted => scene.restart(),
                _ => scene.cut(),
            }
            worker.signal(libc::SIGCONT);
            let done = scene.done(Some(fault)).await;
            assert_eq!(scene.entered(), entered, "nobody was declared dead");
            worker.ends();
            other.ends();
            done
        }
    };
    scene.is_whole(&done, Some(fault)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_to_which_nothing_happens_is_whole() {
    let mut scene = Scene::new(Moment::AfterClaim, None).await;
    scene.job.halt = None;
    let worker = scene.other();
    let done = scene.done(None).await;
    worker.ends();
    scene.is_whole(&done, None).await;
}

macro_rules! cells {
    ($($name:ident: $in_the_document:literal, $moment:ident, $fault:ident;)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            plays(Moment::$moment, Fault::$fault).await;
        })+

        #[test]
        fn every_cell_of_the_table_in_the_document_is_a_test() {
            let cells = [$((stringify!($name), $in_the_document, Fault::$fault)),+];
            let document = std::fs::read_to_string("docs/crash.md").unwrap();
            let (_, section) = document.split_once("\n## On PostgreSQL, with files in S3\n").unwrap();
            let (section, _) = section.split_once("\n## ").unwrap();
            let rows = section.lines().filter(|line| line.starts_with("| ")).skip(2);
            let found = rows.flat_map(|row| {
                let cells = row.trim_matches('|').split('|').map(str::trim);
                let (moment, faults) = (cells.clone().next().unwrap(), cells.skip(1));
                let named = faults.map(|cell| cell.rsplit('`').nth(1).unwrap());
                let of = [Fault::Killed, Fault::CutOff, Fault::Restarted, Fault::Frozen];
                named.zip(of).map(move |(name, fault)| (name, moment, fault))
            });
            let (found, wanted): (HashSet<_>, HashSet<_>) = (found.collect(), cells.into());
            assert_eq!(found, wanted);
            assert_eq!(wanted.len(), 36, "nine moments meet each fault");
        }
    };
}

cells! {
    worker_killed_after_a_claim: "after a claim", AfterClaim, Killed;
    worker_killed_within_a_row: "within a row", WithinRow, Killed;
    worker_killed_after_an_effect: "after an effect that nobody knows of", AfterEffect, Killed;
    worker_killed_at_a_commit: "at a commit whose answer is lost", AtCommit, Killed;
    worker_killed_before_a_close: "between the last block and the close", BeforeClose, Killed;
    worker_killed_within_an_upload: "within an upload", WithinUpload, Killed;
    worker_killed_after_an_upload: "after an upload", AfterUpload, Killed;
    worker_killed_while_an_end_is_told: "while an end is told", WhileTold, Killed;
    worker_killed_while_a_batch_is_aborted: "while a batch is aborted", WhileAborted, Killed;
    worker_cut_off_after_a_claim: "after a claim", AfterClaim, CutOff;
    worker_cut_off_within_a_row: "within a row", WithinRow, CutOff;
    worker_cut_off_after_an_effect: "after an effect that nobody knows of", AfterEffect, CutOff;
    worker_cut_off_at_a_commit: "at a commit whose answer is lost", AtCommit, CutOff;
    worker_cut_off_before_a_close: "between the last block and the close", BeforeClose, CutOff;
    worker_cut_off_within_an_upload: "within an upload", WithinUpload, CutOff;
    worker_cut_off_after_an_upload: "after an upload", AfterUpload, CutOff;
    worker_cut_off_while_an_end_is_told: "while an end is told", WhileTold, CutOff;
    worker_cut_off_while_a_batch_is_aborted: "while a batch is aborted", WhileAborted, CutOff;
    server_restarted_after_a_claim: "after a claim", AfterClaim, Restarted;
    server_restarted_within_a_row: "within a row", WithinRow, Restarted;
    server_restarted_after_an_effect: "after an effect that nobody knows of", AfterEffect, Restarted;
    server_restarted_at_a_commit: "at a commit whose answer is lost", AtCommit, Restarted;
    server_restarted_before_a_close: "between the last block and the close", BeforeClose, Restarted;
    server_restarted_within_an_upload: "within an upload", WithinUpload, Restarted;
    server_restarted_after_an_upload: "after an upload", AfterUpload, Restarted;
    server_restarted_while_an_end_is_told: "while an end is told", WhileTold, Restarted;
    server_restarted_while_a_batch_is_aborted: "while a batch is aborted", WhileAborted, Restarted;
    worker_frozen_after_a_claim: "after a claim", AfterClaim, Frozen;
    worker_frozen_within_a_row: "within a row", WithinRow, Frozen;
    worker_frozen_after_an_effect: "after an effect that nobody knows of", AfterEffect, Frozen;
    worker_frozen_at_a_commit: "at a commit whose answer is lost", AtCommit, Frozen;
    worker_frozen_before_a_close: "between the last block and the close", BeforeClose, Frozen;
    worker_frozen_within_an_upload: "within an upload", WithinUpload, Frozen;
    worker_frozen_after_an_upload: "after an upload", AfterUpload, Frozen;
    worker_frozen_while_an_end_is_told: "while an end is told", WhileTold, Frozen;
    worker_frozen_while_a_batch_is_aborted: "while a batch is aborted", WhileAborted, Frozen;
}
