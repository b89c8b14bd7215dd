//! Computes weighted max-min fair shares: each gets in proportion to its weight, none more than it requests, and what
//! one does not need is shared by the others in the same way.

/// One request and its weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub amount: u64,
    pub weight: u32,
}

/// Shares of `whole`, in the order of `asked`.
pub(super) fn shares(whole: u64, asked: &[Asked]) -> Vec<u64> {
    let weight = |at: usize| u128::from(asked[at].weight.max(1));
    let mut order: Vec<usize> = (0..asked.len()).collect();
    // In order of what each asks for per unit of weight: one that asks for less than an even part is served in full,
    // and the rest of that part goes to those after it.
    order.sort_by(|a, b| {
        let (left, right) = (u128::from(asked[*a].amount) * weight(*b), u128::from(asked[*b].amount) * weight(*a));
        left.cmp(&right).then(a.cmp(b))
    });
    let mut shares = vec![0; asked.len()];
    let mut left = u128::from(whole);
    let mut weights: u128 = order.iter().map(|at| weight(*at)).sum();
    for at in order {
        let part = left * weight(at) / weights.max(1);
        let share = part.min(u128::from(asked[at].amount));
        shares[at] = u64::try_from(share).unwrap_or(u64::MAX);
        left -= share;
        weights -= weight(at);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::{Asked, shares};

    fn of(whole: u64, asked: &[(u64, u32)]) -> Vec<u64> {
        let asked: Vec<Asked> =
            asked.iter().map(|(amount, weight)| Asked { amount: *amount, weight: *weight }).collect();
        shares(whole, &asked)
    }

    #[test]
    fn an_unneeded_share_goes_to_the_others_by_weight() {
        assert_eq!(of(12, &[(100, 1), (100, 1), (100, 1)]), [4, 4, 4]);
        assert_eq!(of(12, &[(1, 1), (100, 1), (100, 1)]), [1, 5, 6]);
        assert_eq!(of(12, &[(100, 2), (100, 1)]), [8, 4]);
        assert_eq!(of(12, &[(2, 2), (3, 1), (100, 1)]), [2, 3, 7]);
        assert_eq!(of(12, &[(3, 1), (4, 1)]), [3, 4]);
        assert_eq!(of(0, &[(3, 1)]), [0]);
        assert_eq!(of(5, &[]), [0; 0]);
        assert_eq!(of(u64::MAX, &[(u64::MAX, u32::MAX), (u64::MAX, 0)]).len(), 2);
    }
}
