//! Rows go to a command's standard input and come back from its output: any language, no SDK.
//!
//! A task has one child at a time. `run` hands it rows and reads answers, `pool` keeps children
//! between tasks, `child` is what a task sees of one, `process` makes sure that none is left
//! behind, `wire` knows the lines.

mod child;
mod ends;
mod pipes;
mod pool;
mod process;
mod rows;
mod run;
mod spec;
mod stderr;
mod wire;

#[cfg(test)]
mod tests;

use std::any::TypeId;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::desk::Work;
use super::{AnyBlock, BoxError, ErasedProcessor};
use crate::model::Batch;

pub use pool::settle;
pub use spec::CommandSpec;

/// Everything about handlers is logged under this target, what they write to stderr too.
const TARGET: &str = "rowmill::handler";

/// Runs rows by children of this process.
///
/// Dropped, it closes their input; those that have not ended 5 s later are killed.
pub(crate) struct CommandProcessor {
    pool: pool::Pool,
}

impl CommandProcessor {
    pub(crate) fn new(spec: CommandSpec) -> Self {
        Self {
            pool: pool::Pool::new(spec),
        }
    }
}

impl ErasedProcessor for CommandProcessor {
    fn run<'a>(&'a self, work: Work) -> BoxFuture<'a, ()> {
        run::run(&self.pool, work).boxed()
    }

    fn mark_done<'a>(
        &'a self,
        _: AnyBlock,
        _: i64,
        _: &'a Batch,
    ) -> BoxFuture<'a, Result<(), BoxError>> {
        std::future::ready(Ok(())).boxed()
    }

    fn block(&self) -> (TypeId, &'static str) {
        (TypeId::of::<()>(), std::any::type_name::<()>())
    }

    fn wants_ends(&self) -> bool {
        false
    }

    fn resize(&self, tasks: usize) {
        self.pool.grow(tasks);
    }
}
