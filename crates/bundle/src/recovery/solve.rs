//! Which sums of good slices and recovery blocks give the missing slices.

use rust_par2::gf;
use rust_par2::gf_simd::mul_add_buffer;
use rust_par2::matrix::par2_input_constants;

/// Recovery blocks looked at beyond those needed: some choices of blocks depend on each other.
const SPARE: usize = 16;

/// The factor of each slice in a recovery block.
pub(super) fn block_factors(slices: usize, exponents: impl IntoIterator<Item = u32>) -> Vec<Vec<u16>> {
    let constants = par2_input_constants(slices);
    exponents.into_iter().map(|e| constants.iter().map(|c| gf::pow(*c, e)).collect()).collect()
}

/// How to make the missing slices.
pub(super) struct Solution {
    /// Which of the given recovery blocks is used, for each missing slice one: it takes the slice's place as an input.
    pub(super) blocks: Vec<usize>,
    /// The factors of all inputs, for each missing slice.
    pub(super) rows: Vec<Vec<u16>>,
}

/// Solves for the `missing` of `slices` with recovery blocks of these exponents. If they do not determine all of them:
/// how many they do.
pub(super) fn solve(slices: usize, missing: &[usize], exponents: &[u32]) -> Result<Solution, usize> {
    let exponents = &exponents[..exponents.len().min(missing.len() + SPARE)];
    // A block is the sum of all slices, so the sum of missing slices is that of good slices and the block (Gauss, Jordan):
    // [missing | good | block] becomes [1 | factors of good | factors of blocks]. The slices stand where they are.
    let width = slices + exponents.len();
    let mut rows: Vec<Row> = block_factors(slices, exponents.iter().copied())
        .into_iter()
        .enumerate()
        .map(|(number, factors)| {
            let mut row = Row { number, words: vec![0; 2 * width] };
            factors.into_iter().enumerate().for_each(|(i, f)| row.set(i, f));
            row.set(slices + number, 1);
            row
        })
        .collect();
    for (done, &slice) in missing.iter().enumerate() {
        let pivot = (done..rows.len()).find(|r| rows[*r].get(slice) != 0).ok_or(done)?;
        rows.swap(done, pivot);
        let mut words = vec![0; 2 * width];
        mul_add_buffer(&mut words, &rows[done].words, gf::inv(rows[done].get(slice)));
        for row in rows.iter_mut().enumerate().filter_map(|(r, row)| (r != done).then_some(row)) {
            let factor = row.get(slice);
            mul_add_buffer(&mut row.words, &words, factor);
        }
        rows[done].words = words;
    }
    rows.truncate(missing.len());
    let blocks: Vec<usize> = rows.iter().map(|row| row.number).collect();
    let inputs = |row: &Row| {
        let mut factors: Vec<u16> = (0..slices).map(|i| row.get(i)).collect();
        for (slice, block) in missing.iter().zip(&blocks) {
            factors[*slice] = row.get(slices + block);
        }
        factors
    };
    Ok(Solution { rows: rows.iter().map(inputs).collect(), blocks })
}

/// A row of the system, in the bytes that the arithmetic works on.
struct Row {
    number: usize,
    words: Vec<u8>,
}

impl Row {
    fn get(&self, i: usize) -> u16 {
        u16::from_le_bytes([self.words[2 * i], self.words[2 * i + 1]])
    }

    fn set(&mut self, i: usize, value: u16) {
        self.words[2 * i..2 * i + 2].copy_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(slices: usize, missing: &[usize], exponents: &[u32]) {
        let value = |i: usize| (i * i * 77 + 13) as u16;
        let sum = |factors: &[u16], of: &dyn Fn(usize) -> u16| {
            factors.iter().enumerate().fold(0, |sum, (i, f)| sum ^ gf::mul(*f, of(i)))
        };
        let blocks: Vec<u16> =
            block_factors(slices, exponents.iter().copied()).iter().map(|f| sum(f, &value)).collect();
        let solution = solve(slices, missing, exponents).unwrap_or_else(|rank| panic!("rank {rank}"));
        let input = |i: usize| match missing.iter().position(|m| *m == i) {
            Some(n) => blocks[solution.blocks[n]],
            None => value(i),
        };
        for (row, slice) in solution.rows.iter().zip(missing) {
            assert_eq!(sum(row, &input), value(*slice));
        }
    }

    #[test]
    fn missing_slices_come_back() {
        check(1, &[0], &[0]);
        check(10, &[0, 3, 9], &[0, 1, 2]);
        check(10, &[0, 3, 9], &[7, 65534, 2, 40000]);
        check(300, &(0..300).collect::<Vec<_>>(), &(0..300).collect::<Vec<_>>());
        check(300, &(5..100).step_by(3).collect::<Vec<_>>(), &(17..60).collect::<Vec<_>>());
        check(5, &[], &[1]);
    }

    #[test]
    fn blocks_that_say_the_same_are_noticed_and_passed_over() {
        // To the power of 65535 every factor is 1, as it is to that of 0.
        assert_eq!(solve(10, &[1, 2], &[0, 65535]).err(), Some(1));
        assert_eq!(solve(10, &[1, 2], &[]).err(), Some(0));
        check(10, &[1, 2], &[0, 65535, 1]);
    }
}
