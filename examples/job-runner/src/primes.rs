//! The work of a job.

use std::ops::Range;

/// Returns the primes in this range, in order.
pub(crate) fn primes_in(range: Range<u64>) -> Vec<u64> {
    let size = usize::try_from(range.end - range.start).expect("a part fits into memory");
    let mut is_prime = vec![true; size];
    for divisor in (2..).take_while(|divisor| divisor * divisor < range.end) {
        let first = range.start.next_multiple_of(divisor).max(divisor * divisor);
        for multiple in (first..range.end).step_by(divisor as usize) {
            is_prime[(multiple - range.start) as usize] = false;
        }
    }
    range
        .clone()
        .filter(|n| *n > 1 && is_prime[(n - range.start) as usize])
        .collect()
}

/// Writes a number with commas between thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_all_primes() {
        let whole = primes_in(0..10_000);
        let parts: Vec<_> = (0..10)
            .flat_map(|part| primes_in(part * 1_000..(part + 1) * 1_000))
            .collect();
        assert_eq!(whole.len(), 1_229);
        assert_eq!(whole[..5], [2, 3, 5, 7, 11]);
        assert_eq!(parts, whole);
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            [0, 999, 1_000, 12_345_678].map(grouped).join(" "),
            "0 999 1,000 12,345,678"
        );
    }
}
