//! Fault points: named moments at which a test kills or stops the process.
//!
//! They do nothing unless the crate is built with the feature `probe`. With it, the environment
//! variable `ROWMILL_PROBE` says what happens where: `POINT[:N]=kill` kills the process without
//! notice when the point is passed for the Nth time (from 1); several are joined by commas.

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
            kill();
        }
    }
}

#[cfg(feature = "probe")]
struct Plan {
    point: String,
    left: std::sync::atomic::AtomicI64,
}

#[cfg(feature = "probe")]
fn plans() -> &'static [Plan] {
    static PLANS: std::sync::OnceLock<Vec<Plan>> = std::sync::OnceLock::new();
    PLANS.get_or_init(|| {
        let text = std::env::var("ROWMILL_PROBE").unwrap_or_default();
        text.split(',')
            .filter_map(|plan| plan.strip_suffix("=kill"))
            .map(|plan| {
                let (point, nth) = plan.split_once(':').unwrap_or((plan, "1"));
                Plan {
                    point: point.to_owned(),
                    left: nth.parse().unwrap_or(1).into(),
                }
            })
            .collect()
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
