//! The conformance suite: each case on each store, grouped by the step that it is about.
//!
//! A case takes a fresh store and is named by the behaviour it shows. After each, the invariants are
//! checked. A store of another make adds one line to `on_every_store`.

mod abort;
mod append;
mod at_once;
mod batch;
mod claim;
mod close;
mod expire;
mod give_back;
mod history;
mod keep;
mod list;
mod load;
mod notices;
mod ops;
mod purge;
mod record;
mod redact;
mod release;
mod retry;
mod rows;
mod submit;
mod take_over;
mod together;
mod transact;

macro_rules! on_store {
    ($store:ident, $harness:ty, $($group:ident: $($case:ident)+;)+) => {
        mod $store {
            $(mod $group {
                $(
                    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                    async fn $case() {
                        use crate::support::Harness as _;
                        let h = <$harness>::open().await;
                        crate::conformance::$group::$case(&h).await;
                        crate::support::invariants(&h).await;
                    }
                )+
            })+
        }
    };
}

macro_rules! on_every_store {
    ($($cases:tt)+) => {
        on_store!(sqlite, crate::support::Sqlite, $($cases)+);
        on_store!(postgres, crate::support::Postgres, $($cases)+);
        on_store!(pooled, crate::support::Pooled, $($cases)+);
    };
}

/// Cases that are about so many steps or blocks. Behind PgBouncer, where each statement is planned anew, they would take as
/// long as all others together, and make no other statements.
macro_rules! on_every_store_but_pooled {
    ($($cases:tt)+) => {
        mod large {
            on_store!(sqlite, crate::support::Sqlite, $($cases)+);
            on_store!(postgres, crate::support::Postgres, $($cases)+);
        }
    };
}

on_every_store! {
    submit:
        a_submitted_batch_is_queued_with_all_its_rows
        the_same_id_with_the_same_content_returns_the_batch_that_is_there
        the_same_id_with_other_content_is_refused
        an_external_id_names_one_batch_of_its_app
        an_external_id_outlives_the_end_of_its_batch
        names_of_an_app_and_an_op_are_never_joined
        an_op_has_one_queue_whatever_the_case_it_is_written_in
        a_pair_has_an_op_of_each_kind
        many_queries_are_submitted_together_or_not_at_all
        what_the_submit_of_a_query_answers_is_what_is_read
        of_queries_that_come_at_the_same_moment_a_refused_one_refuses_no_other
        everything_that_was_submitted_is_read_back
        submits_at_the_same_moment_are_all_there
    ;
    together:
        each_query_of_a_call_is_claimed_and_ends_once
        queries_of_a_call_are_claimed_one_by_one_where_few_are_asked_for
        a_query_of_a_call_is_aborted_alone
        a_running_query_of_a_call_is_aborted_alone
        queries_of_a_worker_that_died_go_again_but_for_those_that_ended
        a_query_of_a_call_that_goes_again_leaves_the_others
        queries_of_a_call_that_are_given_back_are_claimed_again
        the_work_of_an_op_is_counted_whatever_stands_together
        queries_of_a_call_take_their_place_by_priority_and_turn
        the_oldest_queries_of_a_call_come_first_where_it_is_asked_for
        a_cap_holds_for_queries_of_a_call
        a_worker_of_one_query_of_a_call_claims_that_one
        queries_of_a_call_at_most_once_are_suspect_from_their_first_claim
        queries_of_a_paused_op_are_claimed_by_nobody
        a_call_made_again_is_answered_with_what_is_there
        the_attempt_of_a_query_of_a_call_is_told
        aborts_and_records_at_the_same_moment_end_each_query_once
        claims_of_many_workers_never_share_a_query_of_a_call
        large_and_later_queries_of_a_call_are_as_any
    ;
    at_once:
        a_query_is_claimed_for_the_slot_that_it_is_stored_in
        a_query_behind_others_waits_as_they_do
        a_query_of_a_paused_op_fills_no_slot
        a_slot_of_a_worker_that_is_gone_is_not_filled
        what_may_not_begin_at_once_is_claimed_by_nobody
        a_query_that_is_there_already_fills_no_slot
        a_query_in_a_slot_goes_again_when_its_worker_dies
        a_query_in_a_slot_is_given_back_as_any
        a_query_at_most_once_is_suspect_in_its_slot
        an_abort_reaches_a_query_in_a_slot
        of_queries_that_come_at_the_same_moment_each_has_one_worker
    ;
    load:
        a_load_is_seen_by_nobody_until_it_is_finished
        a_held_load_waits_for_its_release
        the_same_id_is_refused_while_its_loader_writes
        a_silent_load_is_replaced_and_its_loader_is_fenced
        a_silent_load_goes_piece_by_piece_when_it_is_replaced
        an_abandoned_load_is_swept
        a_load_that_is_swept_piece_by_piece_is_taken_from_its_loader_first
        whoever_takes_an_id_keeps_it_while_the_old_load_goes
        a_discarded_load_leaves_nothing
        a_load_that_was_finished_is_answered_when_it_is_finished_again
        a_load_of_a_batch_that_is_there_is_answered_by_its_content
        a_load_under_a_known_external_id_is_answered_by_its_content
        of_two_loads_under_one_external_id_the_first_to_finish_wins
    ;
    append:
        appended_rows_go_on_from_the_batchs_last_line
        gaps_and_given_lines_are_kept
        lines_that_do_not_rise_add_nothing
        there_is_a_last_line
        only_a_held_batch_takes_an_append
        an_append_that_releases_does_both_or_neither
        rejected_rows_of_an_append_have_failed
        an_append_leaves_what_tells_a_repeated_submit
        columns_that_are_new_are_added_to_the_batchs
        a_later_start_is_that_of_appended_rows_too
        a_key_that_was_used_is_answered_or_refused_by_its_content
        without_a_key_what_the_latest_append_had_is_a_repeat
        given_lines_are_content
        a_repeat_is_answered_when_the_batch_is_held_no_more
        a_repeat_that_asks_for_a_release_releases
        an_append_is_seen_when_it_is_finished
        one_append_at_a_time_is_loaded
        a_silent_append_makes_place_and_its_loader_is_fenced
        an_abandoned_append_is_swept_piece_by_piece
        a_discarded_append_leaves_nothing
        an_append_that_was_finished_is_answered_when_it_is_made_again
        a_repeat_of_a_released_append_is_read_and_not_stored
        a_key_with_other_content_is_refused_at_the_end
        an_append_to_a_batch_that_is_released_meanwhile_fails
        an_append_to_a_batch_that_is_aborted_meanwhile_fails
        an_append_to_a_batch_that_expires_meanwhile_fails
        an_append_whose_loader_died_is_swept_from_a_batch_that_has_ended
        of_an_append_and_a_release_at_the_same_moment_none_is_half_made
        of_an_append_and_an_abort_at_the_same_moment_none_is_half_made
        appends_at_the_same_moment_share_no_line
        the_same_append_at_the_same_moment_is_made_once
        of_two_loaders_that_begin_at_the_same_moment_one_is_refused
        whoever_takes_a_place_keeps_it_while_the_old_blocks_go
    ;
    release:
        a_held_batch_is_not_worked_until_it_is_released
        a_released_batch_may_be_released_again
        a_batch_that_is_not_there_cannot_be_released
        a_release_after_an_abort_brings_nothing_back
        a_release_says_who_asked_for_it
        a_batch_of_rejected_rows_only_ends_at_its_release
        a_rejected_row_is_in_no_task
        a_batch_with_a_later_start_is_not_claimed_before_it
        an_abort_ends_rows_whose_tasks_were_not_made_yet
    ;
    redact:
        a_redacted_row_keeps_its_place_and_its_status_alone
        rows_of_a_batch_that_goes_on_are_not_redacted
    ;
    purge:
        a_purged_batch_leaves_its_counts_and_names
        rows_of_a_purged_batch_are_gone_for_every_reader
        a_purge_goes_in_pieces_and_is_taken_up_where_it_was_cut_off
        a_batch_that_goes_on_is_not_purged
        a_batch_is_marked_once
        ended_batches_are_found_oldest_end_first_in_pages
        a_batch_whose_end_waits_to_be_told_is_kept_for_30_days
        a_told_end_keeps_nothing
        the_same_content_is_known_after_the_purge
        a_tombstone_is_forgotten_after_400_days
        a_half_purged_batch_is_not_forgotten
        names_of_output_files_are_counted_and_go_with_their_batch
        how_long_an_op_keeps_is_what_was_registered_last
    ;
    claim:
        a_claimed_task_has_its_rows_and_its_batch
        a_claim_takes_tasks_of_its_op_alone
        a_claim_for_one_batch_takes_no_other
        work_of_an_op_that_nobody_registered_stays_queued
        two_claimers_never_share_a_task
        a_claim_of_nothing_is_harmless
        what_is_damaged_is_claimed_by_nobody_and_holds_up_no_other
        higher_priority_comes_first
        blocks_of_a_batch_go_in_line_order
        a_new_batch_takes_turns_with_the_old_ones
        the_oldest_batch_comes_first_where_it_is_asked_for
        a_claim_stops_at_its_rows_and_bytes
        a_long_task_is_split_and_its_rest_stays_queued
        a_split_task_keeps_its_failures_and_attempts
        a_cap_counts_the_running_rows_of_all_workers
        caps_hold_when_all_ask_at_the_same_moment
        a_worker_that_was_declared_dead_claims_nothing
        each_claim_of_a_row_has_a_higher_attempt
        rows_at_most_once_are_suspect_from_their_first_claim
    ;
    record:
        the_last_record_of_a_one_task_batch_ends_it
        a_batch_of_successes_is_a_success
        a_record_under_an_old_token_is_fenced_and_changes_nothing
        a_record_needs_worker_token_and_task
        a_record_twice_is_recorded_once
        parts_of_many_tasks_whose_rows_go_again_are_recorded_by_one_call
        damage_of_one_of_many_tasks_is_told_as_what_it_is
        queries_of_one_call_that_go_again_are_recorded_by_one_call
        a_fenced_part_does_not_hold_back_its_neighbours
        parts_of_a_long_attempt_are_kept_when_its_worker_dies
        a_retry_goes_again_when_it_is_due
        a_row_that_comes_later_counts_no_failure
        rows_that_leave_a_task_that_goes_on_run_beside_it
        the_end_of_a_batch_stores_one_notice
        a_batch_with_one_aborted_row_is_aborted_however_the_others_ended
        counts_of_an_ended_batch_are_exact
        a_part_that_repeats_a_number_spoils_nothing
        progress_is_told_while_a_batch_is_aborting
    ;
    give_back:
        a_task_given_back_is_claimed_again_and_counts_no_failure
        only_its_holder_gives_a_task_back
        a_task_given_back_to_an_aborted_batch_ends
        a_task_given_back_to_an_expired_batch_ends
        a_row_that_has_its_outcome_does_not_go_again
        a_task_whose_rows_all_have_their_outcomes_ends
        a_begun_task_that_comes_back_to_an_aborted_batch_keeps_its_outcomes
        a_row_at_most_once_that_has_started_does_not_go_again
    ;
    take_over:
        a_dead_process_is_found_and_its_tasks_are_queued_at_once
        a_worker_is_taken_over_once
        a_damaged_task_keeps_no_other_from_coming_back
        what_others_run_is_left_alone
        a_worker_that_leaves_strands_nothing
        a_worker_that_left_is_not_dead
        worker_numbers_are_never_used_again
        a_lost_task_is_suspect_and_counts_no_failure
        suspect_rows_are_committed_before_they_start
        a_poison_row_costs_itself_alone
        a_poison_row_among_many_costs_itself_alone_however_few_losses_are_allowed
        a_poison_row_of_a_large_block_costs_itself_and_five_workers_at_most
        a_good_row_of_many_does_not_fail_when_its_worker_dies_twice
        fifty_losses_at_random_rows_fail_no_good_row
        tasks_that_waited_behind_a_poison_row_are_not_blamed
        a_row_at_most_once_fails_at_its_first_loss_and_the_others_go_on
        a_row_at_most_once_that_had_not_started_runs
        rows_of_an_op_that_is_at_least_once_again_are_not_failed_by_a_death
        a_lost_row_of_an_aborted_batch_is_aborted_at_once
        a_lost_task_of_an_expired_batch_expires
        a_task_whose_rows_had_all_ended_ends_when_its_worker_dies
        the_beat_tells_what_a_worker_runs_and_what_is_aborting
    ;
    transact:
        a_piece_commits_its_writes_with_its_part
        a_piece_that_gives_up_leaves_nothing
        a_piece_under_an_old_token_is_not_begun
        a_piece_of_a_task_that_was_taken_over_is_not_begun
        a_part_that_cannot_be_recorded_takes_the_writes_with_it
        a_piece_that_panics_changes_nothing_and_holds_up_nobody
        pieces_and_parts_of_one_attempt_follow_each_other
        a_piece_that_says_all_ends_its_batch
        rows_of_a_piece_that_go_again_are_queued_with_its_commit
    ;
    abort:
        an_abort_ends_queued_rows_and_leaves_running_ones
        an_abort_of_a_batch_that_has_not_begun_ends_it
        an_abort_that_comes_too_late_changes_nothing
        rows_that_finish_during_an_abort_are_what_they_were
        a_row_that_would_go_again_is_aborted
        an_abort_ends_rows_that_wait_for_another_go
        an_abort_twice_is_one_abort
        a_batch_that_is_not_there_cannot_be_aborted
        an_abort_counts_rejected_rows_as_failed
        an_abort_waits_for_output_files_of_rows_that_ended
        an_abort_of_a_query_ends_it
        a_row_that_was_claimed_before_its_abort_keeps_its_attempt
    ;
    expire:
        a_batch_that_has_not_begun_in_time_expires
        rows_that_run_when_their_batch_expires_finish
        a_claim_that_meets_an_expired_batch_passes_over_it
        an_expired_batch_with_many_tasks_starves_no_other
        a_retry_of_an_expired_batch_expires
        an_aborted_row_beside_an_expired_one_makes_the_batch_aborted
        a_hundred_batches_and_more_expire
    ;
    close:
        a_batch_with_output_files_ends_when_it_is_closed
        a_close_waits_for_every_row
        a_fenced_close_ends_nothing
        a_close_that_is_put_off_comes_again_without_end
        outcomes_come_block_after_block_in_pages
        a_batch_without_output_files_needs_no_close
    ;
    notices:
        an_end_is_told_until_it_is_settled
        a_notice_of_a_dead_worker_is_told_by_another
        a_notice_of_a_worker_that_left_is_told_by_another
        ends_are_told_only_to_their_op
        two_workers_never_tell_one_end_at_the_same_time
    ;
    ops:
        a_paused_op_is_claimed_by_nobody_until_it_is_resumed
        pausing_and_resuming_twice_is_no_error_and_is_audited_once
        an_op_that_nobody_used_becomes_known_when_it_is_paused
        a_pause_is_of_one_kind_alone
        a_pause_leaves_running_tasks_to_their_workers
        batches_of_a_paused_op_expire_and_are_aborted
        settings_are_set_only_where_they_are_what_they_were
        workers_see_the_ops_that_are_paused_or_set
        losses_that_are_allowed_are_what_is_set
        the_work_of_each_op_is_counted
        a_count_ends_at_its_bound
        an_op_is_served_as_long_as_a_worker_of_it_lives
        a_worker_of_one_batch_serves_that_batch_alone
        workers_are_told_with_what_they_work_on
        ends_are_stored_no_longer_once_only_workers_that_tell_none_enter
        ends_are_stored_while_a_live_worker_tells_them
    ;
    keep:
        an_idle_store_has_nothing_due
        the_next_due_time_is_the_first_of_all
        due_tasks_wake_once
        a_notice_that_nobody_takes_is_no_work_for_the_keeper
        a_damaged_batch_holds_up_no_other
    ;
    rows:
        rows_come_in_line_order_with_their_gaps
        inputs_are_kept_byte_for_byte
        a_row_is_seen_as_its_task
        rows_of_a_batch_that_is_not_there_are_not_found
        rows_of_many_blocks_are_paged_without_a_gap
        rows_in_one_status_are_those_of_all_rows
        blocks_without_rows_in_the_status_are_passed_over
        a_reader_goes_on_while_the_batch_is_worked_off
    ;
    list:
        batches_are_listed_newest_first_by_pages_without_a_gap
        a_list_has_what_fits_alone
        a_list_goes_by_the_status_that_is_seen
        a_load_is_in_no_list
    ;
    history:
        each_attempt_of_a_row_is_told_with_what_became_of_it
        an_attempt_whose_worker_died_is_told_of_every_row_that_it_had
        a_row_that_failed_for_its_losses_says_so
        rows_that_were_given_back_are_told_as_queued
        a_task_given_back_unbegun_leaves_no_attempt
        aborted_rows_are_told_with_their_attempt_or_without
        rows_that_expired_or_were_refused_ran_in_no_attempt
        a_row_that_would_go_again_and_was_stopped_is_told_as_stopped
        halves_of_a_split_task_are_told_by_their_workers
        a_redacted_row_keeps_its_attempts_and_loses_their_codes
        histories_of_many_blocks_come_in_pages
        a_line_that_is_not_there_has_no_history
    ;
    retry:
        a_retry_knows_its_parent_root_and_generation
        a_task_of_a_retry_names_its_root
        of_two_retries_at_the_same_moment_one_counts
        a_retry_that_was_loaded_while_another_came_counts_for_nothing
        a_batch_that_goes_on_has_no_retry
        a_retry_that_is_submitted_twice_is_one
    ;
    batch:
        a_batch_that_is_not_there_is_none
        a_query_has_its_result_and_messages_when_it_has_ended
        a_query_that_goes_again_shows_no_result_and_no_messages
        a_query_that_went_again_shows_what_its_last_attempt_said
        counts_grow_while_a_batch_runs
        ops_are_listed_as_they_were_registered
        one_bad_step_does_not_spoil_its_neighbours
        a_step_whose_caller_is_gone_is_made_whole
        a_change_is_signalled_to_whoever_looked_before_it
        what_was_acknowledged_is_there_after_the_store_is_opened_again
    ;
}

on_every_store_but_pooled! {
    append:
        ten_thousand_small_appends_and_more_are_worked_off_in_line_order
    ;
    release:
        a_batch_of_ten_thousand_blocks_and_more_is_given_piece_by_piece
    ;
    list:
        a_step_of_a_list_looks_at_so_much_alone
    ;
}
