//! Where a file's mutants lie in its syntax: a *site* is the text that is decided over when the program runs, with its alternatives.

use std::{collections::HashMap, ops::Range};

use syn::{Expr, spanned::Spanned, visit::Visit};

use super::list::{Genre, Mutant};

/// A piece of text and what takes its place under each of its mutants.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) range: Range<usize>,
    pub(super) form: Form,
    /// The mutant, by its place in the list, and its text.
    pub(super) alternatives: Vec<(usize, String)>,
}

/// How a site is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Form {
    /// At the start of a function's body: return something else.
    Body,
    /// A guard, for an arm that has none.
    Arm,
    /// A guard, or a struct. It holds the operators within it, so it comes before them.
    Value,
    /// A chain of operators without parentheses around a part of it: the change of an operator may change what binds together, as it does
    /// in the text.
    Operators,
}

/// The sites of a file, and the mutants that have none, each with whether it can be no program at all.
pub(super) struct Sites {
    pub(super) sites: Vec<Site>,
    pub(super) without: Vec<(usize, Without)>,
}

/// Why a mutant has no site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Without {
    /// Its text is not Rust.
    NotParsed,
    /// Its place is none where the running program can decide.
    NotSwitched,
}

/// Finds the site of every mutant of one file; `mutants` are their places in the list.
pub(super) fn sites(text: &str, mutants: &[(usize, &Mutant)]) -> Result<Sites, String> {
    let file = syn::parse_file(text).map_err(|error| error.to_string())?;
    let mut places = Places { text, ..Places::default() };
    places.visit_file(&file);
    let mut found = Sites { sites: Vec::new(), without: Vec::new() };
    let mut by_place: HashMap<(usize, usize, Form), usize> = HashMap::new();
    for (index, mutant) in mutants {
        match places.site(mutant) {
            Ok((range, form, alternative)) => {
                let key = (range.start, range.end, form);
                let at = *by_place.entry(key).or_insert(found.sites.len());
                if at == found.sites.len() {
                    found.sites.push(Site { range, form, alternatives: Vec::new() });
                }
                found.sites[at].alternatives.push((*index, alternative));
            }
            Err(why) => found.without.push((*index, why)),
        }
    }
    // What holds another comes before it; what has no length of its own comes first.
    found.sites.sort_by_key(|site| {
        let empty = site.range.is_empty();
        (site.range.start, !empty, usize::MAX - site.range.end, site.form)
    });
    Ok(found)
}

/// The places of a file at which something can be changed, by the byte at which the changed text starts.
#[derive(Default)]
struct Places<'a> {
    text: &'a str,
    /// Operators to the chain around them; none in a chain with `let`, which is no expression.
    operators: HashMap<usize, Option<Range<usize>>>,
    guards: HashMap<usize, Range<usize>>,
    /// Arms of a `match`: where the pattern ends, and the guard.
    arms: HashMap<usize, (usize, Option<Range<usize>>)>,
    /// Fields of structs that have the others from a base, to the expression of the struct.
    fields: HashMap<usize, Range<usize>>,
    /// What the compiler computes, and the closures, which it does not.
    constants: Vec<Range<usize>>,
    closures: Vec<Range<usize>>,
    chain: Option<Range<usize>>,
}

impl Places<'_> {
    fn site(&self, mutant: &Mutant) -> Result<(Range<usize>, Form, String), Without> {
        let start = mutant.span.start;
        if self.constants.iter().any(|constant| constant.contains(&start) && !self.in_closure_of(constant, start)) {
            return Err(Without::NotSwitched);
        }
        match mutant.genre {
            Genre::FnValue if mutant.returns_impl => Err(Without::NotSwitched),
            Genre::FnValue => Ok((start..start, Form::Body, format!("return {}", mutant.replacement))),
            Genre::BinaryOperator | Genre::UnaryOperator => {
                let chain = self.operators.get(&start).cloned().flatten().ok_or(Without::NotSwitched)?;
                let text = self.changed(&chain, mutant)?;
                Ok((chain, Form::Operators, text))
            }
            Genre::MatchArm => match self.arms.get(&start) {
                Some((end, None)) => Ok((*end..*end, Form::Arm, "false".to_owned())),
                Some((_, Some(guard))) => Ok((guard.clone(), Form::Value, "false".to_owned())),
                None => Err(Without::NotSwitched),
            },
            Genre::MatchArmGuard => {
                let guard = self.guards.get(&start).cloned().ok_or(Without::NotSwitched)?;
                Ok((guard, Form::Value, mutant.replacement.clone()))
            }
            Genre::StructField => {
                let whole = self.fields.get(&start).cloned().ok_or(Without::NotSwitched)?;
                let text = self.changed(&whole, mutant)?;
                Ok((whole, Form::Value, text))
            }
            Genre::Unknown => Err(Without::NotSwitched),
        }
    }

    /// Visits what is within, as part of a chain or not.
    fn within(&mut self, chain: Option<Range<usize>>, visit: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.chain, chain);
        visit(self);
        self.chain = outer;
    }

    fn constant(&mut self, what: &impl Spanned) {
        self.constants.push(bytes(what));
    }

    /// An expression with a change in it.
    fn changed(&self, whole: &Range<usize>, mutant: &Mutant) -> Result<String, Without> {
        let (before, after) = (&self.text[whole.start..mutant.span.start], &self.text[mutant.span.end..whole.end]);
        let text = format!("({before}{}{after})", mutant.replacement);
        if syn::parse_str::<Expr>(&text).is_ok() { Ok(text) } else { Err(Without::NotParsed) }
    }

    fn in_closure_of(&self, constant: &Range<usize>, place: usize) -> bool {
        let within = |it: &&Range<usize>| constant.start <= it.start && it.end <= constant.end;
        self.closures.iter().filter(within).any(|closure| closure.contains(&place))
    }
}

impl<'ast> Visit<'ast> for Places<'_> {
    fn visit_expr(&mut self, expr: &'ast Expr) {
        match expr {
            Expr::Binary(it) => {
                let whole = self.chain.clone().unwrap_or_else(|| bytes(expr));
                let chain = (!has_let(expr)).then_some(whole);
                self.operators.insert(bytes(&it.op).start, chain.clone());
                self.within(chain, |this| {
                    this.visit_expr(&it.left);
                    this.visit_expr(&it.right);
                });
            }
            Expr::Unary(it) => {
                let whole = self.chain.clone().unwrap_or_else(|| bytes(expr));
                self.operators.insert(bytes(&it.op).start, Some(whole.clone()));
                self.within(Some(whole), |this| this.visit_expr(&it.expr));
            }
            Expr::Struct(it) => {
                let of_base = it.fields.iter().filter(|_| it.rest.is_some());
                self.fields.extend(of_base.map(|field| (bytes(field).start, bytes(expr))));
                self.within(None, |this| syn::visit::visit_expr(this, expr));
            }
            Expr::Closure(it) => {
                self.closures.push(bytes(&it.body));
                self.within(None, |this| syn::visit::visit_expr(this, expr));
            }
            Expr::Const(_) => self.constant(expr),
            Expr::Repeat(it) => {
                self.constant(&it.len);
                self.within(None, |this| syn::visit::visit_expr(this, expr));
            }
            _ => self.within(None, |this| syn::visit::visit_expr(this, expr)),
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        let guard = arm.guard.as_ref().filter(|(_, guard)| !has_let(guard)).map(|(_, guard)| bytes(guard));
        if let Some(guard) = &guard {
            self.guards.insert(guard.start, guard.clone());
        }
        if arm.guard.is_some() == guard.is_some() {
            self.arms.insert(bytes(arm).start, (bytes(&arm.pat).end, guard));
        }
        syn::visit::visit_arm(self, arm);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if item.sig.constness.is_some() {
            self.constant(item);
        }
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if item.sig.constness.is_some() {
            self.constant(item);
        }
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.constant(item);
        syn::visit::visit_item_const(self, item);
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.constant(item);
        syn::visit::visit_impl_item_const(self, item);
    }

    fn visit_trait_item_const(&mut self, item: &'ast syn::TraitItemConst) {
        self.constant(item);
        syn::visit::visit_trait_item_const(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.constant(item);
        syn::visit::visit_item_static(self, item);
    }

    fn visit_type_array(&mut self, array: &'ast syn::TypeArray) {
        self.constant(&array.len);
    }
}

/// Whether a chain binds by `let`: `a && let Some(b) = c`.
fn has_let(expr: &Expr) -> bool {
    match expr {
        Expr::Let(_) => true,
        Expr::Binary(it) => has_let(&it.left) || has_let(&it.right),
        _ => false,
    }
}

fn bytes(what: &impl Spanned) -> Range<usize> {
    what.span().byte_range()
}
