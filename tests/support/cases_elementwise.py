"""Cases of elementwise operators, with and without broadcasting."""

from differentiated import Case

X = "real[N,3,4] x"
ANYWHERE = "Abs Atan Asinh Cos Cosh Elu Erf Exp HardSigmoid HardSwish Identity LeakyRelu Mish Neg Relu Selu Shrink Sigmoid Sin Sinh Softplus Softsign Tan Tanh ThresholdedRelu".split()
WITHIN = {"Log": (0.2, 3), "Sqrt": (0.2, 3), "Reciprocal": (0.2, 3), "Acosh": (1.2, 3), "Asin": (-0.9, 0.9), "Acos": (-0.9, 0.9), "Atanh": (-0.9, 0.9)}  # fmt: skip
PAIRS = "Add Sub Mul Div Max Min Mean Sum".split()

UNARY = {op: Case(f"y = {op} (x)", X) for op in ANYWHERE} | {
    op: Case(f"y = {op} (x)", X, span=span) for op, span in WITHIN.items()
}

BROADCAST = {f"{op}-{a}-{b}".replace(",", "x"): Case(f"y = {op} (a, b)", f"real[{a}] a, real[{b}] b")
    for op in PAIRS for a, b in [("N,3,4", "N,3,4"), ("N,3,4", "3,1"), ("1,4", "N,3,4"), ("N,1,4", "N,3,1"), ("N,3", "1")]
}  # fmt: skip

OTHERS = {
    # attributes, and values on all pieces
    "leaky-slope": Case("y = LeakyRelu <alpha=0.3> (x)", X),
    "thresholded-low": Case("y = ThresholdedRelu <alpha=-0.5> (x)", X),
    "elu-alpha": Case("y = Elu <alpha=1.7> (x)", X),
    "selu-parameters": Case("y = Selu <alpha=1.2, gamma=0.7> (x)", X),
    "celu": Case("y = Celu (x)", X, opset=28),
    "celu-alpha": Case("y = Celu <alpha=1.7> (x)", X, opset=28),
    "hard-sigmoid-parameters": Case("y = HardSigmoid <alpha=0.4, beta=0.3> (x)", X, span=(-2, 3)),
    "hard-sigmoid-wide": Case("y = HardSigmoid (x)", X, span=(-4, 4)),
    "hard-swish-wide": Case("y = HardSwish (x)", X, span=(-5, 5)),
    "shrink-parameters": Case("y = Shrink <lambd=0.3, bias=0.2> (x)", X),
    "swish": Case("y = Swish <alpha=1.7> (x)", X, opset=24),
    "swish-1": Case("y = Swish (x)", X, opset=24),
    "gelu": Case("y = Gelu (x)", X, opset=20),
    "gelu-tanh": Case('y = Gelu <approximate="tanh"> (x)', X, opset=20),
    "softplus-far": Case("y = Softplus (x)", X, span=(-20, 20)),
    # bounds and choices
    "clip": Case("y = Clip (x, low, high)", X, "real low = {-0.5}, real high = {0.7}"),
    "clip-below": Case("y = Clip (x, low)", X, "real low = {-0.5}"),
    "clip-above": Case("y = Clip (x, , high)", X, "real high = {0.7}"),
    "clip-nothing": Case("y = Clip (x)", X),
    "prelu": Case("y = PRelu (x, s)", f"{X}, real[3,1] s"),
    "prelu-scalar": Case("y = PRelu (x, s)", f"{X}, real[1] s"),
    "where": Case("c = Greater (a, b) y = Where (c, a, b)", "real[N,3] a, real[3] b"),
    "where-weight": Case("y = Where (c, a, b)", "real[N,3] a, real[1] b", "bool[3] c = {1, 0, 1}"),
    "where-condition-widest": Case("y = Where (c, a, b)", "real[3] a, real[1] b", "bool[2,3] c = {1, 0, 1, 0, 0, 1}"),
    "max-of-one": Case("y = Max (x)", X),
    "max-of-three": Case("y = Max (a, b, c)", "real[N,3,4] a, real[3,1] b, real[4] c"),
    "min-of-three": Case("y = Min (a, b, c)", "real[N,3,4] a, real[3,1] b, real[4] c"),
    "sum-of-one": Case("y = Sum (x)", X),
    "sum-of-three": Case("y = Sum (a, b, a)", "real[N,3,4] a, real[3,1] b"),
    "mean-of-three": Case("y = Mean (b, a, a)", "real[N,3,4] a, real[3,1] b"),
    "with-itself": Case("y = Mul (x, x)", X),
    # powers: by the base, by both, of a negative base, of an integer exponent
    "pow": Case("y = Pow (a, b)", "real[N,3] a, real[1,3] b", span=(0.5, 1.5)),
    "pow-2": Case("y = Pow (x, b)", X, "real b = {2.0}"),
    "pow-cube-int": Case("y = Pow (x, b)", X, "int64 b = {3}"),
    "pow-0": Case("y = Pow (x, b)", X, "real b = {0.0}"),
    "pow-minus": Case("y = Pow (x, b)", X, "real b = {-1.0}"),
    "pow-of-a-number": Case("y = Pow (a, x)", X, "real a = {1.7}"),
    "pow-lists": Case("y = Pow (x, b)", X, "real[4] b = {0.0, 1.0, 2.0, 3.0}"),
    # remainders: the divisor is a parameter
    "mod": Case("y = Mod <fmod=1> (x, b)", X, "real b = {0.7}"),
    "mod-column": Case("y = Mod <fmod=1> (x, b)", X, "real[3,1] b"),
    # types
    "cast": Case("h = CastLike (x, x) y = Mul (h, x)", X),
    "cast-like": Case("h = CastLike (x, w) y = Mul (h, x)", X, "real w = {1.0}"),
    "dropout": Case("y = Dropout (x)", X),
    "dropout-training-false": Case("y = Dropout (x, r, t)", X, "float r = {0.5}, bool t = {0}"),
    # sums along an axis
    "cumsum": Case("y = CumSum (x, a)", X, "int64 a = {1}"),
    "cumsum-exclusive": Case("y = CumSum <exclusive=1> (x, a)", X, "int64 a = {-1}"),
    "cumsum-reverse": Case("y = CumSum <reverse=1> (x, a)", X, "int64 a = {2}"),
    "cumsum-both": Case("y = CumSum <reverse=1, exclusive=1> (x, a)", X, "int32 a = {1}"),
    # other ranks
    "scalar": Case("y = Exp (x)", "real x"),
    "vector": Case("y = Mul (x, w)", "real[N] x", "real w"),
    "five-axes": Case("y = Mul (x, w)", "real[N,2,1,3,2] x, real[2,4,1,1] w"),
}

CASES = UNARY | BROADCAST | OTHERS
