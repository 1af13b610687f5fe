-- Workers that may be dead: those that have not ended, and those that have but still own running tasks. Params: 1 seconds of silence. Returns: no, incarnation, whether it was heard of in these, ended. Locks: none.
select no, incarnation, beat_at > clock_timestamp() - make_interval(secs => $1), false from workers where ended_at is null
union all
select no, incarnation, false, true from workers where ended_at is not null and no in (select worker from queue where state = 2)
