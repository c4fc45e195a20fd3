//! From template source to instructions of the engine.
//!
//! The source is first checked by its tokens, without recursion, so that nothing in it can exhaust the
//! stack of the parser. Then every operator of the parsed template is replaced by a call into
//! [`super::ops`]: the engine would otherwise fold `'a' * 100000000` while compiling and double strings
//! without end while running.

use std::collections::BTreeMap;

use minijinja::machinery::ast::{self, BinOpKind, CallArg, CompareOpKind, Expr, Spanned, Stmt, UnaryOpKind};
use minijinja::machinery::{CodeGenerator, Instructions, Span, Token};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind, Value};

use super::limits::{ELIF_BRANCHES, Exceeded, SOURCE_BYTES, TAG_TOKENS, exceeded};

/// A compiled template.
pub(super) type Compiled<'a> = (Instructions<'a>, BTreeMap<&'a str, Instructions<'a>>);

/// Jinja's settings in transformers.
fn syntax() -> Result<SyntaxConfig, Error> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

/// `{% generation %}` marks what a model is trained on. It prints its body, in a scope of its own, which
/// `{% with %}` does as well.
pub(super) fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        let word_at = tag.len() - tag.trim_start_matches(['-', '+']).trim_start().len();
        let (space, word) = tag.split_at(word_at);
        let mut taken = space.len();
        out.push_str(space);
        for (name, replacement) in [("generation", "with"), ("endgeneration", "endwith")] {
            let closed = word
                .strip_prefix(name)
                .is_some_and(|tail| tail.trim_start().trim_start_matches(['-', '+']).starts_with("%}"));
            if closed {
                out.push_str(replacement);
                taken += name.len();
            }
        }
        rest = &tag[taken..];
    }
    out.push_str(rest);
    out
}

/// Compiles `source`; errors carry the line.
pub(super) fn compile<'a>(name: &'a str, source: &'a str) -> Result<Compiled<'a>, Error> {
    check(source)?;
    let parsed = minijinja::machinery::parse(source, name, syntax()?)?;
    let rewritten = Rewriter.statement(&parsed)?;
    let mut generator = CodeGenerator::new(name, source);
    generator.compile_stmt(&rewritten);
    Ok(generator.finish())
}

fn too_long(what: &'static str, source: &str, span: Span) -> Error {
    let at = (span.start_offset as usize).min(source.len());
    let line = Some(1 + source.bytes().take(at).filter(|&byte| byte == b'\n').count());
    Error::new(ErrorKind::SyntaxError, what).with_source(Exceeded { what, line })
}

/// Refuses sources that cannot be compiled safely. The parser itself bounds how deeply brackets and
/// statements nest, but recurses without a bound into chains of operators and of `elif`, and so does
/// everything after it.
fn check(source: &str) -> Result<(), Error> {
    if source.len() > SOURCE_BYTES {
        return Err(exceeded("is larger than 1 MiB"));
    }
    let (mut tokens, mut branches, mut first) = (0, 0, false);
    for token in minijinja::machinery::tokenize(source, false, syntax()?) {
        let (token, span) = token?;
        tokens = if matches!(token, Token::VariableStart | Token::BlockStart) { 0 } else { tokens + 1 };
        branches += usize::from(first && matches!(token, Token::Ident("elif")));
        first = matches!(token, Token::BlockStart);
        if tokens > TAG_TOKENS {
            return Err(too_long("has a tag of more than 1024 words", source, span));
        }
        if branches > ELIF_BRANCHES {
            return Err(too_long("has more than 512 elif branches", source, span));
        }
    }
    Ok(())
}

/// Copies a parsed template, operators replaced by calls.
struct Rewriter;

/// A call of an operator, written as a filter: the engine finds filters without searching scopes.
fn operator<'a>(name: &'a str, span: Span, first: Expr<'a>, others: Vec<Expr<'a>>) -> Expr<'a> {
    let args = others.into_iter().map(CallArg::Pos).collect();
    Expr::Filter(Spanned::new(ast::Filter { name, expr: Some(first), args }, span))
}

fn constant<'a>(value: impl Into<Value>, span: Span) -> Expr<'a> {
    Expr::Const(Spanned::new(ast::Const { value: value.into() }, span))
}

impl Rewriter {
    fn statements<'a>(&self, body: &[Stmt<'a>]) -> Result<Vec<Stmt<'a>>, Error> {
        body.iter().map(|statement| self.statement(statement)).collect()
    }

    fn statement<'a>(&self, statement: &Stmt<'a>) -> Result<Stmt<'a>, Error> {
        Ok(match statement {
            Stmt::Template(t) => {
                let children = self.statements(&t.children)?;
                Stmt::Template(Spanned::new(ast::Template { children }, t.span()))
            }
            // Literal text goes through the formatter too, which counts it.
            Stmt::EmitRaw(raw) => {
                let expr = constant(raw.raw, raw.span());
                Stmt::EmitExpr(Spanned::new(ast::EmitExpr { expr }, raw.span()))
            }
            Stmt::EmitExpr(emit) => {
                Stmt::EmitExpr(Spanned::new(ast::EmitExpr { expr: self.expression(&emit.expr) }, emit.span()))
            }
            Stmt::ForLoop(l) => {
                let iter = operator("for-in", l.iter.span(), self.expression(&l.iter), vec![]);
                let node = ast::ForLoop {
                    target: self.target(&l.target)?,
                    iter,
                    filter_expr: l.filter_expr.as_ref().map(|filter| self.expression(filter)),
                    recursive: l.recursive,
                    body: self.statements(&l.body)?,
                    else_body: self.statements(&l.else_body)?,
                };
                Stmt::ForLoop(Spanned::new(node, l.span()))
            }
            Stmt::IfCond(c) => {
                let node = ast::IfCond {
                    expr: self.expression(&c.expr),
                    true_body: self.statements(&c.true_body)?,
                    false_body: self.statements(&c.false_body)?,
                };
                Stmt::IfCond(Spanned::new(node, c.span()))
            }
            Stmt::WithBlock(w) => {
                let assignments = w
                    .assignments
                    .iter()
                    .map(|(target, value)| Ok((self.target(target)?, self.expression(value))))
                    .collect::<Result<_, Error>>()?;
                let node = ast::WithBlock { assignments, body: self.statements(&w.body)? };
                Stmt::WithBlock(Spanned::new(node, w.span()))
            }
            Stmt::Set(s) => {
                let mut expr = self.expression(&s.expr);
                if matches!(s.target, Expr::GetAttr(_)) {
                    expr = operator("x.y=", s.span(), expr, vec![]);
                }
                Stmt::Set(Spanned::new(ast::Set { target: self.target(&s.target)?, expr }, s.span()))
            }
            Stmt::SetBlock(s) => {
                let node = ast::SetBlock {
                    target: self.target(&s.target)?,
                    filter: s.filter.as_ref().map(|filter| self.expression(filter)),
                    body: self.statements(&s.body)?,
                };
                Stmt::SetBlock(Spanned::new(node, s.span()))
            }
            Stmt::FilterBlock(f) => {
                let node =
                    ast::FilterBlock { filter: self.expression(&f.filter), body: self.statements(&f.body)? };
                Stmt::FilterBlock(Spanned::new(node, f.span()))
            }
            Stmt::Macro(m) => Stmt::Macro(Spanned::new(self.macro_declaration(m)?, m.span())),
            Stmt::CallBlock(c) => {
                let node = ast::CallBlock {
                    call: Spanned::new(self.call(&c.call), c.call.span()),
                    macro_decl: Spanned::new(self.macro_declaration(&c.macro_decl)?, c.macro_decl.span()),
                };
                Stmt::CallBlock(Spanned::new(node, c.span()))
            }
            Stmt::Do(d) => {
                let call = Spanned::new(self.call(&d.call), d.call.span());
                Stmt::Do(Spanned::new(ast::Do { call }, d.span()))
            }
            Stmt::Continue(c) => Stmt::Continue(Spanned::new(ast::Continue, c.span())),
            Stmt::Break(b) => Stmt::Break(Spanned::new(ast::Break, b.span())),
            Stmt::AutoEscape(_) => return Err(unsupported("autoescape")),
            Stmt::Block(_) => return Err(unsupported("block")),
            Stmt::Import(_) | Stmt::FromImport(_) => return Err(unsupported("import")),
            Stmt::Extends(_) => return Err(unsupported("extends")),
            Stmt::Include(_) => return Err(unsupported("include")),
        })
    }

    fn macro_declaration<'a>(&self, m: &ast::Macro<'a>) -> Result<ast::Macro<'a>, Error> {
        Ok(ast::Macro {
            name: m.name,
            args: m.args.iter().map(|arg| self.target(arg)).collect::<Result<_, _>>()?,
            defaults: self.expressions(&m.defaults),
            body: self.statements(&m.body)?,
        })
    }

    /// What is assigned to: names, attributes of namespaces, lists of these.
    fn target<'a>(&self, target: &Expr<'a>) -> Result<Expr<'a>, Error> {
        Ok(match target {
            Expr::List(l) => {
                let items = l.items.iter().map(|item| self.target(item)).collect::<Result<_, _>>()?;
                Expr::List(Spanned::new(ast::List { items }, l.span()))
            }
            Expr::GetAttr(g) => {
                if g.name.starts_with('_') {
                    return Err(Error::new(
                        ErrorKind::SyntaxError,
                        format!("attribute {} of a namespace starts with an underscore", g.name),
                    ));
                }
                let node = ast::GetAttr { expr: self.expression(&g.expr), name: g.name };
                Expr::GetAttr(Spanned::new(node, g.span()))
            }
            other => self.expression(other),
        })
    }

    fn expressions<'a>(&self, items: &[Expr<'a>]) -> Vec<Expr<'a>> {
        items.iter().map(|item| self.expression(item)).collect()
    }

    fn expression<'a>(&self, expr: &Expr<'a>) -> Expr<'a> {
        let span = expr.span();
        match expr {
            Expr::Var(v) => Expr::Var(Spanned::new(ast::Var { id: v.id }, span)),
            Expr::Const(c) => constant(c.value.clone(), span),
            Expr::Slice(s) => {
                let bound = |bound: &Option<Expr<'a>>| {
                    bound.as_ref().map_or_else(|| constant((), span), |bound| self.expression(bound))
                };
                let bounds = vec![bound(&s.start), bound(&s.stop), bound(&s.step)];
                operator("[:]", span, self.expression(&s.expr), bounds)
            }
            Expr::UnaryOp(u) => match u.op {
                UnaryOpKind::Not => {
                    let node = ast::UnaryOp { op: UnaryOpKind::Not, expr: self.expression(&u.expr) };
                    Expr::UnaryOp(Spanned::new(node, span))
                }
                UnaryOpKind::Neg => operator("-x", span, self.expression(&u.expr), vec![]),
            },
            Expr::BinOp(b) => {
                let (left, right) = (self.expression(&b.left), self.expression(&b.right));
                match binary(b.op) {
                    Some(name) => operator(name, span, left, vec![right]),
                    None => Expr::BinOp(Spanned::new(ast::BinOp { op: b.op, left, right }, span)),
                }
            }
            Expr::Compare(c) => {
                // Jinja evaluates each operand once and stops at the first false; nothing here has an
                // effect that would tell.
                let mut operands = Vec::new();
                for op in &c.ops {
                    operands.push(constant(comparison(op.op), span));
                    operands.push(self.expression(&op.expr));
                }
                operator("a<b<c", span, self.expression(&c.expr), operands)
            }
            Expr::IfExpr(i) => {
                let node = ast::IfExpr {
                    test_expr: self.expression(&i.test_expr),
                    true_expr: self.expression(&i.true_expr),
                    false_expr: i.false_expr.as_ref().map(|expr| self.expression(expr)),
                };
                Expr::IfExpr(Spanned::new(node, span))
            }
            Expr::Filter(f) => {
                let node = ast::Filter {
                    name: f.name,
                    expr: f.expr.as_ref().map(|expr| self.expression(expr)),
                    args: self.arguments(&f.args),
                };
                Expr::Filter(Spanned::new(node, span))
            }
            Expr::Test(t) => {
                let node =
                    ast::Test { name: t.name, expr: self.expression(&t.expr), args: self.arguments(&t.args) };
                Expr::Test(Spanned::new(node, span))
            }
            Expr::GetAttr(g) => {
                let node = ast::GetAttr { expr: self.expression(&g.expr), name: g.name };
                Expr::GetAttr(Spanned::new(node, span))
            }
            Expr::GetItem(g) => {
                operator("[]", span, self.expression(&g.expr), vec![self.expression(&g.subscript_expr)])
            }
            Expr::Call(c) => Expr::Call(Spanned::new(self.call(c), span)),
            Expr::List(l) => {
                let list = Expr::List(Spanned::new(ast::List { items: self.expressions(&l.items) }, span));
                literal(list, &l.items)
            }
            Expr::Tuple(t) => {
                let tuple = Expr::Tuple(Spanned::new(ast::Tuple { items: self.expressions(&t.items) }, span));
                literal(tuple, &t.items)
            }
            Expr::Map(m) => {
                let keys = m
                    .keys
                    .iter()
                    .map(|key| match key {
                        Expr::Const(_) => self.expression(key),
                        _ => operator("{key}", key.span(), self.expression(key), vec![]),
                    })
                    .collect();
                let map =
                    Expr::Map(Spanned::new(ast::Map { keys, values: self.expressions(&m.values) }, span));
                literal(map, &m.values)
            }
        }
    }

    fn call<'a>(&self, c: &ast::Call<'a>) -> ast::Call<'a> {
        let mut args = self.arguments(&c.args);
        if matches!(&c.expr, Expr::GetAttr(g) if g.name == "changed") {
            // The engine compares these itself.
            args = args
                .into_iter()
                .map(|arg| match arg {
                    CallArg::Pos(value) => CallArg::Pos(weighed(value)),
                    other => other,
                })
                .collect();
        }
        ast::Call { expr: self.expression(&c.expr), args }
    }

    fn arguments<'a>(&self, args: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
        args.iter()
            .map(|arg| match arg {
                CallArg::Pos(value) => CallArg::Pos(self.expression(value)),
                CallArg::Kwarg(name, value) => CallArg::Kwarg(name, self.expression(value)),
                // The engine copies what is unpacked.
                CallArg::PosSplat(value) => CallArg::PosSplat(weighed(self.expression(value))),
                CallArg::KwargSplat(value) => CallArg::KwargSplat(weighed(self.expression(value))),
            })
            .collect()
    }
}

/// Chat templates stand alone: there are no other templates to include, and nothing is escaped.
fn unsupported(statement: &str) -> Error {
    Error::new(ErrorKind::SyntaxError, format!("{statement} is not allowed in a chat template"))
}

/// A value that the engine is about to walk through unpaid.
fn weighed(value: Expr<'_>) -> Expr<'_> {
    let span = value.span();
    operator("[...]", span, value, vec![])
}

/// A container written in the template; its elements are checked unless all are constants.
fn literal<'a>(container: Expr<'a>, items: &[Expr<'a>]) -> Expr<'a> {
    if items.iter().all(|item| matches!(item, Expr::Const(_))) {
        return container;
    }
    weighed(container)
}

/// The operator's name in [`super::ops::OPERATORS`]; none where the engine decides which side to
/// evaluate.
fn binary(op: BinOpKind) -> Option<&'static str> {
    Some(match op {
        BinOpKind::ScAnd | BinOpKind::ScOr => return None,
        BinOpKind::Eq => "==",
        BinOpKind::Ne => "!=",
        BinOpKind::Lt => "<",
        BinOpKind::Lte => "<=",
        BinOpKind::Gt => ">",
        BinOpKind::Gte => ">=",
        BinOpKind::Add => "+",
        BinOpKind::Sub => "-",
        BinOpKind::Mul => "*",
        BinOpKind::Div => "/",
        BinOpKind::FloorDiv => "//",
        BinOpKind::Rem => "%",
        BinOpKind::Pow => "**",
        BinOpKind::Concat => "~",
        BinOpKind::In => "in",
    })
}

fn comparison(op: CompareOpKind) -> &'static str {
    match op {
        CompareOpKind::Eq => "==",
        CompareOpKind::Ne => "!=",
        CompareOpKind::Lt => "<",
        CompareOpKind::Lte => "<=",
        CompareOpKind::Gt => ">",
        CompareOpKind::Gte => ">=",
        CompareOpKind::In => "in",
        CompareOpKind::NotIn => "not in",
    }
}
