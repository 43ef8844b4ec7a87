//! The same work on several threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

/// Does something with each item, on up to `jobs` threads of which this is one. No item is begun after an error.
///
/// # Errors
/// The first that came up.
pub fn for_each<T: Send, E: Send>(
    jobs: usize,
    items: impl IntoIterator<IntoIter: ExactSizeIterator<Item = T> + Send>,
    act: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    for_each_until(&AtomicBool::new(false), jobs, items, act)
}

/// As [`for_each`]. `stopped` is set by the first error, for what is under way to end; what fails after it does not count.
///
/// # Errors
/// The first that came up.
pub fn for_each_until<T: Send, E: Send>(
    stopped: &AtomicBool,
    jobs: usize,
    items: impl IntoIterator<IntoIter: ExactSizeIterator<Item = T> + Send>,
    act: impl Fn(T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let items = items.into_iter();
    let threads = jobs.min(items.len());
    let (items, first) = (Mutex::new(items), Mutex::new(None));
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        while !stopped.load(Ordering::Relaxed)
            && let Some(item) = next()
        {
            if let Err(e) = act(item)
                && !stopped.swap(true, Ordering::Relaxed)
            {
                *first.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// What becomes of each item, in the order of the items. See [`for_each`].
///
/// # Errors
/// The first that came up.
pub fn map<T: Send, R: Send, E: Send>(
    jobs: usize,
    items: impl IntoIterator<IntoIter: ExactSizeIterator<Item = T> + Send>,
    act: impl Fn(T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let results = Mutex::new(Vec::new());
    for_each(jobs, items.into_iter().enumerate(), |(place, item)| {
        let result = act(item)?;
        results.lock().unwrap_or_else(PoisonError::into_inner).push((place, result));
        Ok(())
    })?;
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(place, _)| *place);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// Lets a number of threads do something at once; the others wait for their turn.
pub struct Turns {
    left: Mutex<usize>,
    freed: Condvar,
}

impl Turns {
    /// So many at once.
    pub fn new(at_once: usize) -> Self {
        Self { left: Mutex::new(at_once), freed: Condvar::new() }
    }

    /// Waits for a turn, and takes it until what is given is dropped.
    pub fn take(&self) -> Turn<'_> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = self.freed.wait_while(left, |left| *left == 0).unwrap_or_else(PoisonError::into_inner);
        *left -= 1;
        Turn(self)
    }
}

/// See [`Turns::take`].
#[must_use]
pub struct Turn<'t>(&'t Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.left.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn every_item_is_done_once_and_results_keep_their_order() {
        for jobs in [0, 1, 3, 200] {
            let squares: Result<Vec<_>, ()> = map(jobs, 0..100_u32, |n| Ok(n * n));
            assert_eq!(squares, Ok((0..100).map(|n| n * n).collect()));
        }
        // Three at once: each waits for the other two.
        let together = Barrier::new(3);
        let met: Result<(), ()> = for_each(3, 0..9, |_| {
            together.wait();
            Ok(())
        });
        assert_eq!(met, Ok(()));
    }

    #[test]
    fn nothing_is_begun_after_an_error() {
        let begun = AtomicUsize::new(0);
        let failed = for_each(2, 0..1000, |n| {
            begun.fetch_add(1, Ordering::Relaxed);
            if n >= 10 { Err(n) } else { Ok(()) }
        });
        assert!((10..=11).contains(&failed.expect_err("failed")));
        assert!(begun.into_inner() <= 12);
        assert!(map(4, 0..100, |n| if n == 50 { Err("half") } else { Ok(n) }).is_err());
    }

    #[test]
    fn no_more_than_were_said_have_a_turn() {
        let (turns, now, most) = (Turns::new(2), AtomicUsize::new(0), AtomicUsize::new(0));
        let done: Result<(), ()> = for_each(8, 0..40, |_| {
            let _turn = turns.take();
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(2));
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        });
        assert_eq!((done, most.into_inner()), (Ok(()), 2));
    }
}
