//! Topological order, and the circles that prevent one.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};

use petgraph::algo::kosaraju_scc;
use petgraph::graph::DiGraph;

/// Circles shown at most; more than these are not read by anybody.
const MOST_CYCLES: usize = 20;

/// The nodes so that each comes after all that it reads; of those that could come next, the first.
///
/// `reads[n]` are the nodes that `n` reads. None when there is a circle.
pub(super) fn topological(reads: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); reads.len()];
    let mut waiting: Vec<usize> = Vec::with_capacity(reads.len());
    for (node, read) in reads.iter().enumerate() {
        let read: BTreeSet<usize> = read.iter().copied().collect();
        waiting.push(read.len());
        for before in read {
            readers[before].push(node);
        }
    }
    let first = (0..reads.len()).filter(|&n| waiting[n] == 0);
    let mut ready: BinaryHeap<Reverse<usize>> = first.map(Reverse).collect();
    let mut order = Vec::with_capacity(reads.len());
    while let Some(Reverse(node)) = ready.pop() {
        order.push(node);
        for &reader in &readers[node] {
            waiting[reader] -= 1;
            if waiting[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    (order.len() == reads.len()).then_some(order)
}

/// Circles that together contain every edge that is part of one, each as short as its edges allow.
///
/// A circle is a list of nodes, each reading the one before it, the first the last.
pub(super) fn cycles(reads: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut graph = DiGraph::<(), ()>::new();
    let nodes: Vec<_> = reads.iter().map(|_| graph.add_node(())).collect();
    for (node, read) in reads.iter().enumerate() {
        for &before in read {
            graph.add_edge(nodes[before], nodes[node], ());
        }
    }
    // Kosaraju's algorithm, for it does not recurse: a pipeline may be deep.
    let mut part = vec![0; reads.len()];
    for (number, members) in kosaraju_scc(&graph).into_iter().enumerate() {
        for member in members {
            part[member.index()] = number;
        }
    }
    let mut cycles = Vec::new();
    let mut covered = BTreeSet::new();
    for (node, read) in reads.iter().enumerate() {
        for &before in read {
            if part[before] != part[node] || covered.contains(&(before, node)) {
                continue;
            }
            if cycles.len() == MOST_CYCLES {
                return cycles;
            }
            let cycle = shortest(reads, &part, node, before);
            let closing = cycle.iter().zip(cycle.iter().cycle().skip(1));
            covered.extend(closing.map(|(&a, &b)| (a, b)));
            cycles.push(cycle);
        }
    }
    cycles
}

/// The shortest way along the edges from `node` to `before`, which `node` reads; first node smallest.
fn shortest(reads: &[Vec<usize>], part: &[usize], node: usize, before: usize) -> Vec<usize> {
    // Backwards from `before` along what is read, to `node`.
    let mut next = vec![usize::MAX; reads.len()];
    let mut queue = VecDeque::from([before]);
    let mut seen = BTreeSet::from([before]);
    while let Some(at) = queue.pop_front() {
        if at == node {
            break;
        }
        for &read in &reads[at] {
            if part[read] == part[node] && seen.insert(read) {
                next[read] = at;
                queue.push_back(read);
            }
        }
    }
    let mut cycle = vec![node];
    let mut at = node;
    while at != before {
        at = next[at];
        cycle.push(at);
    }
    let smallest = (0..cycle.len()).min_by_key(|&i| cycle[i]).unwrap_or(0);
    cycle.rotate_left(smallest);
    cycle
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn file_order_is_kept_where_it_can_be() {
        assert_eq!(
            topological(&[vec![2], vec![], vec![], vec![0]]),
            Some(vec![1, 2, 0, 3])
        );
    }

    #[test]
    fn every_circle_is_found() {
        // 0 → 1 → 0, 1 → 2 → 1, and 3 alone with itself; 4 only reads.
        let reads = [vec![1], vec![0, 2], vec![1], vec![3], vec![3]];
        assert_eq!(topological(&reads), None);
        assert_eq!(cycles(&reads), [vec![0, 1], vec![1, 2], vec![3]]);
    }

    #[test]
    fn a_deep_graph_is_no_problem() {
        let mut reads: Vec<Vec<usize>> = (0..200_000_usize)
            .map(|n| vec![n.saturating_sub(1)])
            .collect();
        reads[0] = vec![199_999];
        assert_eq!(cycles(&reads)[0].len(), 200_000);
        reads[0] = Vec::new();
        assert_eq!(topological(&reads).expect("no circle").len(), 200_000);
    }

    fn any_graph() -> impl Strategy<Value = Vec<Vec<usize>>> {
        (1_usize..12).prop_flat_map(|n| prop::collection::vec(prop::collection::vec(0..n, 0..3), n))
    }

    proptest! {
        #[test]
        fn an_order_or_circles_and_never_both(reads in any_graph()) {
            let cycles = cycles(&reads);
            match topological(&reads) {
                Some(order) => {
                    prop_assert!(cycles.is_empty());
                    let place = |n: usize| order.iter().position(|&o| o == n).unwrap();
                    prop_assert_eq!(order.iter().copied().collect::<BTreeSet<_>>().len(), reads.len());
                    for (node, read) in reads.iter().enumerate() {
                        for &before in read {
                            prop_assert!(place(before) < place(node));
                        }
                    }
                }
                None => prop_assert!(!cycles.is_empty()),
            }
            for cycle in cycles {
                for (i, &node) in cycle.iter().enumerate() {
                    let before = cycle[(i + cycle.len() - 1) % cycle.len()];
                    prop_assert!(reads[node].contains(&before));
                }
            }
        }
    }
}
