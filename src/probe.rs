//! Fault points: named moments at which a test kills or stops the process.
//!
//! They do nothing unless the crate is built with the feature `probe`. With it, the environment
//! variable `ROWMILL_PROBE` says what happens where: `POINT[:N]=kill` kills the process without
//! notice when the point is passed for the Nth time (from 1), and `POINT[:N]=stop` stops it (SIGSTOP)
//! until it is told to go on: its parent sees both. Several are joined by commas.

/// Every fault point, in the order in which a batch passes them.
pub const POINTS: &[&str] = &[
    "load_begun",
    "load_piece",
    "load_finished",
    "append_begun",
    "append_piece",
    "append_finished",
    "claimed",
    "row_started",
    "row_done",
    "piece_before_commit",
    "piece_committed",
    "before_record",
    "recorded",
    "close_claimed",
    "part_sent",
    "assembled",
    "published",
    "closed",
    "before_notice",
    "told",
    "dead_found",
    "taken_over",
    "purge_marked",
    "purge_files_removed",
    "purge_piece",
];

/// Passes a fault point.
#[cfg(not(feature = "probe"))]
#[inline(always)]
pub fn at(_point: &'static str) {}

/// Passes a fault point.
#[cfg(feature = "probe")]
pub fn at(point: &'static str) {
    debug_assert!(POINTS.contains(&point), "{point} is not in POINTS");
    for plan in plans() {
        if plan.point == point && plan.left.fetch_sub(1, std::sync::atomic::Ordering::SeqCst) == 1 {
            match plan.then {
                Then::Kill => kill(),
                Then::Stop => stop(),
            }
        }
    }
}

#[cfg(feature = "probe")]
enum Then {
    Kill,
    Stop,
}

#[cfg(feature = "probe")]
struct Plan {
    point: String,
    left: std::sync::atomic::AtomicI64,
    then: Then,
}

#[cfg(feature = "probe")]
fn plans() -> &'static [Plan] {
    static PLANS: std::sync::OnceLock<Vec<Plan>> = std::sync::OnceLock::new();
    PLANS.get_or_init(|| {
        let text = std::env::var("ROWMILL_PROBE").unwrap_or_default();
        text.split(',').filter_map(plan).collect()
    })
}

#[cfg(feature = "probe")]
fn plan(text: &str) -> Option<Plan> {
    let (place, then) = text.split_once('=')?;
    let then = match then {
        "kill" => Then::Kill,
        "stop" => Then::Stop,
        _ => return None,
    };
    let (point, nth) = place.split_once(':').unwrap_or((place, "1"));
    Some(Plan {
        point: point.to_owned(),
        left: nth.parse().unwrap_or(1).into(),
        then,
    })
}

#[cfg(feature = "probe")]
fn kill() {
    // SAFETY: kill and getpid touch no memory of ours.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
    }
    loop {
        std::thread::park();
    }
}

/// Stops the whole process here; it returns when the process is told to go on.
#[cfg(feature = "probe")]
pub fn stop() {
    // SAFETY: raise touches no memory of ours. To this thread, so that it goes no step further.
    unsafe {
        libc::raise(libc::SIGSTOP);
    }
}
