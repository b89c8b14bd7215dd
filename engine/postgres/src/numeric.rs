//! `numeric` on the wire: digits to the base of 10,000, of which the first weighs 10,000 to the power of `weight`.

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;

/// The value times ten to the power of `scale`.
pub(crate) fn decode(field: &[u8], precision: u8, scale: u8) -> Result<i128, String> {
    let word = |at: usize| field.get(2 * at..2 * at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let broken = || format!("a numeric of {} bytes cannot be read", field.len());
    let (Some(count), Some(weight), Some(sign)) = (word(0), word(1), word(2)) else {
        return Err(broken());
    };
    let negative = match sign {
        0 => false,
        NEGATIVE => true,
        NAN => return Err("NaN is not a Decimal: read it as float8 or text (in a query of your own)".to_owned()),
        INFINITY | MINUS_INFINITY => return Err("infinity is not a Decimal: read it as float8 or text".to_owned()),
        _ => return Err(broken()),
    };
    let weight = i64::from(weight.cast_signed());
    let too_large = || format!("a numeric has more than {precision} digits, {scale} of them after the point");
    let mut value: i128 = 0;
    // How many zeros are still to be put at the end.
    let mut zeros: i64 = 0;
    for at in 0..i64::from(count) {
        let digit = word(4 + usize::try_from(at).map_err(|_| broken())?).ok_or_else(broken)?;
        let digit = i128::from(digit);
        let exponent = 4 * (weight - at) + i64::from(scale);
        let (places, digit) = match exponent {
            0.. => (4, digit),
            -3..=-1 if digit % power(-exponent) == 0 => (4 + exponent, digit / power(-exponent)),
            _ if digit == 0 => (0, 0),
            _ => return Err(too_large()),
        };
        value = value.checked_mul(power(places)).and_then(|value| value.checked_add(digit)).ok_or_else(too_large)?;
        zeros = exponent.max(0);
    }
    if value != 0 {
        let factor = 10i128.checked_pow(u32::try_from(zeros).map_err(|_| too_large())?);
        value = factor.and_then(|factor| value.checked_mul(factor)).ok_or_else(too_large)?;
    }
    if value >= 10i128.pow(u32::from(precision.min(38))) {
        return Err(too_large());
    }
    Ok(if negative { -value } else { value })
}

/// Of four at most.
fn power(of: i64) -> i128 {
    [1, 10, 100, 1000, 10_000].get(usize::try_from(of).unwrap_or(0)).copied().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(weight: i16, sign: u16, digits: &[u16]) -> Vec<u8> {
        let head = [digits.len() as u16, weight.cast_unsigned(), sign, 0];
        head.iter().chain(digits).flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn digits_are_put_at_their_places() {
        for (weight, digits, scale, expected) in [
            (0, vec![], 2, 0),
            (0, vec![1], 0, 1),
            (0, vec![1, 5000], 2, 150),
            (0, vec![1, 5000], 4, 15_000),
            (-1, vec![5], 4, 5),
            (-2, vec![1000], 5, 1),
            (1, vec![12, 3456], 0, 123_456),
            (2, vec![1], 1, 1_000_000_000),
        ] {
            assert_eq!(decode(&field(weight, 0, &digits), 38, scale), Ok(expected), "{weight} {digits:?} {scale}");
            assert_eq!(decode(&field(weight, NEGATIVE, &digits), 38, scale), Ok(-expected));
        }
    }

    #[test]
    fn thirty_eight_digits_fit_and_no_more() {
        // 38 nines, two of them after the point: 36 before it are nine digits of the base.
        let mut nines = vec![9999; 9];
        nines.push(9900);
        assert_eq!(decode(&field(8, 0, &nines), 38, 2), Ok(10i128.pow(38) - 1));
        assert!(decode(&field(9, 0, &nines), 38, 2).is_err());
        assert!(decode(&field(0, 0, &[100]), 2, 0).is_err());
        assert!(decode(&field(-1, 0, &[1234]), 38, 2).is_err(), "digits would be lost");
        assert!(decode(&field(30000, 0, &[1]), 38, 0).is_err());
    }

    #[test]
    fn what_is_no_number_is_refused() {
        assert!(decode(&field(0, NAN, &[]), 38, 0).unwrap_err().contains("NaN"));
        assert!(decode(&field(0, INFINITY, &[]), 38, 0).unwrap_err().contains("infinity"));
        assert!(decode(&[0, 1], 38, 0).is_err());
        assert!(decode(&field(0, 0, &[1])[..9], 38, 0).is_err());
    }
}
