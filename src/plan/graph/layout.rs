//! Where the boxes of a drawing go: a column for each distance from the start, rows that keep edges short.

/// A place in a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) column: usize,
    pub(super) row: usize,
}

/// How often rows are put in order, once left to right and once back each time.
const SWEEPS: usize = 4;

/// Places nodes, which are in topological order, along their edges (from, to).
pub(super) fn place(count: usize, edges: &[(usize, usize)]) -> Vec<Cell> {
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut after: Vec<Vec<usize>> = vec![Vec::new(); count];
    for &(from, to) in edges {
        before[to].push(from);
        after[from].push(to);
    }
    let mut column = vec![0_usize; count];
    for node in 0..count {
        column[node] = before[node]
            .iter()
            .map(|&b| column[b] + 1)
            .max()
            .unwrap_or(0);
    }
    // A node that reads nothing stands beside its first reader, not at the far left.
    for node in 0..count {
        if before[node].is_empty()
            && let Some(first) = after[node].iter().map(|&a| column[a]).min()
        {
            column[node] = first.saturating_sub(1);
        }
    }
    let columns = column.iter().max().map_or(0, |&c| c + 1);
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); columns];
    for (node, &c) in column.iter().enumerate() {
        members[c].push(node);
    }
    let mut row = vec![0; count];
    for list in &members {
        number(list, &mut row);
    }
    for _ in 0..SWEEPS {
        for list in &mut members {
            arrange(list, &before, &mut row);
        }
        for list in members.iter_mut().rev() {
            arrange(list, &after, &mut row);
        }
    }
    let cell = |(&column, &row)| Cell { column, row };
    column.iter().zip(&row).map(cell).collect()
}

/// Sorts a column by the middle of each node's neighbours.
fn arrange(list: &mut [usize], neighbours: &[Vec<usize>], row: &mut [usize]) {
    let middle = |node: usize| {
        let near = &neighbours[node];
        if near.is_empty() {
            return row[node] as f64;
        }
        near.iter().map(|&n| row[n] as f64).sum::<f64>() / near.len() as f64
    };
    let mut keyed: Vec<(f64, usize)> = list.iter().map(|&n| (middle(n), n)).collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0).then(row[a.1].cmp(&row[b.1])));
    for (place, (_, node)) in list.iter_mut().zip(keyed) {
        *place = node;
    }
    number(list, row);
}

fn number(list: &[usize], row: &mut [usize]) {
    for (n, &node) in list.iter().enumerate() {
        row[node] = n;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// No two boxes are in one place, and every edge goes to the right.
        #[test]
        fn any_graph_has_room(edges in prop::collection::vec((0usize..30, 0usize..30), 0..80)) {
            let edges: Vec<(usize, usize)> =
                edges.into_iter().filter(|(a, b)| a != b).map(|(a, b)| (a.min(b), a.max(b))).collect();
            let cells = place(30, &edges);
            for (from, to) in edges {
                prop_assert!(cells[from].column < cells[to].column);
            }
            for (n, a) in cells.iter().enumerate() {
                prop_assert!(cells[n + 1..].iter().all(|b| a != b));
            }
        }
    }
}
