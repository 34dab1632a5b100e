//! Puts a filter around every part of a template that can make a value larger than those it came from.
//!
//! The template engine weighs nothing, and its operators cannot be replaced. So `a ~ b` becomes `((a ~ b)|_made)`,
//! and so do sums, products and literal lists and objects; what `set` keeps goes through `_kept`. Lines stay where
//! they were. And `a[::-1]` becomes a method of our own, for the engine's stops at an empty list.

use std::cmp::Reverse;

use minijinja::Error as JinjaError;
use minijinja::machinery::{self, Span, ast};
use minijinja::syntax::SyntaxConfig;

use super::limits::{HELD, KEPT, MADE, refuse};

/// The method of what is read backwards.
pub(super) const REVERSED: &str = "_reversed";
/// Of operators in a row, as in `a ~ b ~ c`, every so many are looked at: brackets inside each other are few.
const IN_A_ROW: usize = 16;
/// The longest text or list that the compiler may work out from constants, in bytes or items.
const LONGEST_CONSTANT: usize = 1 << 20;

/// The template with the filter in it.
///
/// # Errors
/// The template's own faults, and constants that would fill the memory before anything is rendered.
pub(super) fn guarded(
    source: &str,
    name: &str,
    syntax: &SyntaxConfig,
) -> Result<String, JinjaError> {
    let mut guard = Guard {
        source,
        spans: Vec::new(),
        backwards: Vec::new(),
        too_long: false,
    };
    guard.statement(&machinery::parse(source, name, syntax.clone())?);
    if guard.too_long {
        return Err(refuse("a constant of the template is longer than 1 MiB"));
    }
    let mut marks: Vec<Mark> = guard
        .backwards
        .iter()
        .map(|&place| Mark::reverse(place))
        .collect();
    for (start, end, filter) in &guard.spans {
        marks.push(Mark {
            at: *start,
            side: Side::Opens,
            skip: 0,
            text: "((".to_owned(),
        });
        // At one place inner parts close before outer ones: they begin later.
        let side = Side::Closes(Reverse(*start));
        marks.push(Mark {
            at: *end,
            side,
            skip: 0,
            text: format!(")|{filter})"),
        });
    }
    marks.sort_unstable();
    let mut out = String::with_capacity(source.len() + 16 * marks.len());
    let mut written = 0;
    for mark in marks {
        out.push_str(source.get(written..mark.at).unwrap_or_default());
        out.push_str(&mark.text);
        written = mark.at + mark.skip;
    }
    out.push_str(source.get(written..).unwrap_or_default());
    Ok(out)
}

/// A text that is put in at a place, in the order of places.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    at: usize,
    side: Side,
    /// So many bytes of the template it stands for.
    skip: usize,
    text: String,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Closes(Reverse<usize>),
    Replaces,
    Opens,
}

impl Mark {
    fn reverse((start, end): (usize, usize)) -> Self {
        Self {
            at: start,
            side: Side::Replaces,
            skip: end - start,
            text: format!(".{REVERSED}()"),
        }
    }
}

struct Guard<'a> {
    source: &'a str,
    /// Where parts begin and end, in bytes, and the filter of each.
    spans: Vec<(usize, usize, &'static str)>,
    /// Where `[::-1]` begins and ends.
    backwards: Vec<(usize, usize)>,
    too_long: bool,
}

impl Guard<'_> {
    fn note(&mut self, span: Span) {
        let (start, end) = (span.start_offset as usize, span.end_offset as usize);
        self.spans.push((start, end, MADE));
    }

    /// All that follows the `=` of a `set`.
    fn set(&mut self, set: &ast::Spanned<ast::Set<'_>>) {
        let after = set.target.span().end_offset as usize;
        let end = set.span().end_offset as usize;
        let rest = self.source.get(after..end).unwrap_or_default();
        if let Some(equals) = rest.find('=') {
            let inside = matches!(set.target, ast::Expr::GetAttr(_));
            let filter = if inside { HELD } else { KEPT };
            self.spans.push((after + equals + 1, end, filter));
        }
        self.expression(&set.expr);
    }

    /// An operator, so many operators below the first of its row.
    fn binary(&mut self, binary: &ast::Spanned<ast::BinOp<'_>>, below: usize) {
        if grows(binary.op) && below.is_multiple_of(IN_A_ROW) {
            self.note(binary.span());
        }
        match &binary.left {
            ast::Expr::BinOp(left) if grows(left.op) && grows(binary.op) => {
                self.binary(left, below + 1);
            }
            left => self.expression(left),
        }
        self.expression(&binary.right);
    }

    fn statements(&mut self, statements: &[ast::Stmt<'_>]) {
        for statement in statements {
            self.statement(statement);
        }
    }

    fn statement(&mut self, statement: &ast::Stmt<'_>) {
        use ast::Stmt;
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::ForLoop(each) => {
                self.expression(&each.iter);
                self.optional(each.filter_expr.as_ref());
                self.statements(&each.body);
                self.statements(&each.else_body);
            }
            Stmt::IfCond(choice) => {
                self.expression(&choice.expr);
                self.statements(&choice.true_body);
                self.statements(&choice.false_body);
            }
            Stmt::WithBlock(with) => {
                for (_, value) in &with.assignments {
                    self.expression(value);
                }
                self.statements(&with.body);
            }
            Stmt::Set(set) => self.set(set),
            Stmt::SetBlock(set) => {
                self.optional(set.filter.as_ref());
                self.statements(&set.body);
            }
            Stmt::AutoEscape(escape) => self.statements(&escape.body),
            Stmt::FilterBlock(filter) => {
                self.expression(&filter.filter);
                self.statements(&filter.body);
            }
            Stmt::Block(block) => self.statements(&block.body),
            Stmt::Macro(declared) => self.macro_of(declared),
            Stmt::CallBlock(call) => {
                self.call(&call.call);
                self.macro_of(&call.macro_decl);
            }
            Stmt::Do(call) => self.call(&call.call),
            // Other templates are not there to be read.
            Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_) => {}
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => {}
        }
    }

    fn macro_of(&mut self, declared: &ast::Macro<'_>) {
        declared.defaults.iter().for_each(|e| self.expression(e));
        self.statements(&declared.body);
    }

    fn call(&mut self, call: &ast::Call<'_>) {
        self.expression(&call.expr);
        self.arguments(&call.args);
    }

    fn arguments(&mut self, arguments: &[ast::CallArg<'_>]) {
        use ast::CallArg::{Kwarg, KwargSplat, Pos, PosSplat};
        for argument in arguments {
            match argument {
                Pos(value) | Kwarg(_, value) | PosSplat(value) | KwargSplat(value) => {
                    self.expression(value);
                }
            }
        }
    }

    fn optional(&mut self, expression: Option<&ast::Expr<'_>>) {
        if let Some(expression) = expression {
            self.expression(expression);
        }
    }

    fn expression(&mut self, expression: &ast::Expr<'_>) {
        use ast::Expr;
        match expression {
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(slice) => {
                self.expression(&slice.expr);
                let end = slice.span().end_offset as usize;
                let before = self.source.get(..end).unwrap_or_default();
                if let (true, Some(start)) = (is_reversal(slice), before.rfind('[')) {
                    self.backwards.push((start, end));
                    return;
                }
                for bound in [&slice.start, &slice.stop, &slice.step] {
                    self.optional(bound.as_ref());
                }
            }
            Expr::UnaryOp(unary) => self.expression(&unary.expr),
            Expr::BinOp(binary) => {
                self.too_long |= matches!(
                    constant(expression),
                    Some(Constant::Long(length)) if length > LONGEST_CONSTANT
                );
                self.binary(binary, 0);
            }
            Expr::Compare(compare) => {
                self.expression(&compare.expr);
                compare.ops.iter().for_each(|op| self.expression(&op.expr));
            }
            Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr);
                self.expression(&choice.true_expr);
                self.optional(choice.false_expr.as_ref());
            }
            Expr::Filter(filter) => {
                self.optional(filter.expr.as_ref());
                self.arguments(&filter.args);
            }
            Expr::Test(test) => {
                self.expression(&test.expr);
                self.arguments(&test.args);
            }
            Expr::GetAttr(get) => self.expression(&get.expr),
            Expr::GetItem(get) => {
                self.expression(&get.expr);
                self.expression(&get.subscript_expr);
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.literal(list.span(), &list.items),
            Expr::Tuple(tuple) => self.literal(tuple.span(), &tuple.items),
            Expr::Map(map) => {
                self.literal(map.span(), &map.values);
                map.keys.iter().for_each(|key| self.expression(key));
            }
        }
    }

    /// A literal of constants stays as it is: the compiler works it out once.
    fn literal(&mut self, span: Span, items: &[ast::Expr<'_>]) {
        if !items.iter().all(|item| matches!(item, ast::Expr::Const(_))) {
            self.note(span);
        }
        items.iter().for_each(|item| self.expression(item));
    }
}

/// Whether this is `[::-1]`.
fn is_reversal(slice: &ast::Slice<'_>) -> bool {
    let step = slice.step.as_ref().and_then(ast::Expr::as_const);
    let step = step.and_then(|step| i64::try_from(step).ok());
    slice.start.is_none() && slice.stop.is_none() && step == Some(-1)
}

/// Whether the operator's result can be larger than both sides.
fn grows(op: ast::BinOpKind) -> bool {
    use ast::BinOpKind::{Add, Concat, Mul};
    [Add, Mul, Concat].into_iter().any(|other| same(op, other))
}

fn same(a: ast::BinOpKind, b: ast::BinOpKind) -> bool {
    std::mem::discriminant(&a) == std::mem::discriminant(&b)
}

/// What a constant expression comes to, before the compiler works it out.
#[derive(Clone, Copy)]
enum Constant {
    /// A text or a list, of so many bytes or items.
    Long(usize),
    Number(usize),
}

fn constant(expression: &ast::Expr<'_>) -> Option<Constant> {
    use Constant::{Long, Number};
    let items = |items: &[ast::Expr<'_>]| {
        items.iter().try_fold(Long(0), |sum, item| {
            let (Long(sum) | Number(sum)) = sum;
            Some(match constant(item)? {
                Long(length) => Long(sum.saturating_add(length)),
                Number(_) => Long(sum.saturating_add(1)),
            })
        })
    };
    Some(match expression {
        ast::Expr::Const(constant) => match constant.value.as_str() {
            Some(text) => Long(text.len()),
            None => Number(constant.value.as_usize().unwrap_or(0)),
        },
        ast::Expr::List(list) => items(&list.items)?,
        ast::Expr::Tuple(tuple) => items(&tuple.items)?,
        ast::Expr::UnaryOp(unary) => constant(&unary.expr)?,
        ast::Expr::BinOp(binary) => match (constant(&binary.left)?, constant(&binary.right)?) {
            (Long(length), Number(times)) | (Number(times), Long(length))
                if same(binary.op, ast::BinOpKind::Mul) =>
            {
                Long(length.saturating_mul(times))
            }
            (Number(left), Number(right)) => Number(match binary.op {
                ast::BinOpKind::Add => left.saturating_add(right),
                ast::BinOpKind::Mul => left.saturating_mul(right),
                // Neither is larger than a number that the compiler could take for a length of more than 100 MB.
                _ => usize::MAX,
            }),
            (Long(left) | Number(left), Long(right) | Number(right)) => {
                Long(left.saturating_add(right))
            }
        },
        _ => return None,
    })
}
