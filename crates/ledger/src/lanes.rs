//! Work for other threads, whose results come in the order in which it was given out.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::available_parallelism;

/// More threads than that would wait for this one.
const MOST: usize = 8;

/// How many items a thread may have at once: one to work on, and one that waits.
const EACH: usize = 2;

/// Takes items from `next`, each with its weight, works on them on other threads, and gives the results to `take`, in order;
/// `next` and `take` run on this thread. While there is more than `heaviest` under way, no more is taken.
///
/// # Errors
/// The first of `take`.
pub(crate) fn in_order<T: Send, R: Send, E>(
    mut next: impl FnMut() -> Option<(T, usize)>,
    heaviest: usize,
    work: impl Fn(T) -> R + Sync,
    mut take: impl FnMut(R) -> Result<(), E>,
) -> Result<(), E> {
    let threads = available_parallelism().map_or(1, NonZero::get).min(MOST);
    std::thread::scope(|scope| {
        let mut lanes: Vec<(SyncSender<T>, Receiver<R>)> = Vec::with_capacity(threads);
        for _ in 0..threads {
            let ((to, inbox), (outbox, from)) = (sync_channel::<T>(EACH), sync_channel(EACH));
            let work = &work;
            scope.spawn(move || inbox.into_iter().map(work).try_for_each(|result| outbox.send(result)));
            lanes.push((to, from));
        }
        let mut under_way = VecDeque::new();
        let (mut given, mut ended) = (0, false);
        loop {
            while !ended && under_way.len() < threads * EACH && under_way.iter().sum::<usize>() <= heaviest {
                let Some((item, weight)) = next() else {
                    ended = true;
                    break;
                };
                // A thread that is gone has panicked, and so will this one at the end of the scope.
                if lanes[given % threads].0.send(item).is_err() {
                    return Ok(());
                }
                under_way.push_back(weight);
                given += 1;
            }
            if under_way.is_empty() {
                return Ok(());
            }
            let Ok(result) = lanes[(given - under_way.len()) % threads].1.recv() else { return Ok(()) };
            under_way.pop_front();
            take(result)?;
        }
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn results_come_in_order_and_little_is_under_way() {
        // Even two threads would take more than two items at once.
        for (weight, heaviest, most) in [(1, 100, MOST * EACH), (10, 100, 11), (10, 20, 2)] {
            let (mut numbers, given, mut taken) = (0..1000_u64, RefCell::new(0_usize), Vec::new());
            let next = || {
                *given.borrow_mut() += 1;
                numbers.next().map(|n| (n, weight))
            };
            let work = |n: u64| {
                std::thread::sleep(std::time::Duration::from_micros(n * 37 % 101));
                n * 2
            };
            let take = |result| {
                taken.push(result);
                let under_way = *given.borrow() - taken.len();
                if under_way > most { Err(under_way) } else { Ok(()) }
            };
            assert_eq!(in_order(next, heaviest, work, take), Ok(()));
            assert!(taken.into_iter().eq((0..1000).map(|n| n * 2)));
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let mut numbers = 0..;
        let take = |n: u64| if n < 100 { Ok(()) } else { Err(n) };
        assert_eq!(in_order(|| numbers.next().map(|n| (n, 1)), 1000, |n| n, take), Err(100));
        assert!(numbers.start <= 101 + (MOST * EACH) as u64);
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_is_not_taken_for_the_end() {
        let mut numbers = 0..10_u64;
        let _ = in_order(|| numbers.next().map(|n| (n, 1)), 10, |n| assert_ne!(n, 5), |()| Ok::<_, ()>(()));
    }
}
