"""Cases of the operators of onnxruntime (com.microsoft)."""

from differentiated import Case

X = "real[N,3,4] x"


def fused(attributes: str, added: bool = False) -> Case:
    inputs = "real[N,4,8,7] x, real[N,5,4,4] z" if added else "real[N,4,8,7] x"
    call = f"y = com.microsoft.FusedConv <strides=[2,2], pads=[1,1,1,1]{attributes}> (x, w, b{', z' if added else ''})"
    return Case(call, inputs, "real[5,4,3,3] w, real[5] b", output="real[N,5,4,4] y")


def product(a: str, b: str, y: str, attributes: str) -> Case:
    call = f"y = com.microsoft.FusedMatMul <{attributes}> (a, b)"
    return Case(call, f"real[{a}] a, real[{b}] b", output=f"real[{y}] y")


def unary(op: str) -> Case:
    return Case(f"y = com.microsoft.{op} (x)", X, output=X.replace("x", "y"))


CASES = {
    "fused": fused(""),
    "fused-added": fused("", added=True),
    "fused-relu": fused(', activation="Relu"'),
    "fused-relu-added": fused(', activation="Relu"', added=True),
    "fused-leaky": fused(', activation="LeakyRelu", activation_params=[0.3]'),
    "fused-clip": fused(', activation="Clip", activation_params=[-2.0, 3.0]'),
    "fused-sigmoid": fused(', activation="Sigmoid"'),
    "fused-tanh": fused(', activation="Tanh"'),
    "fused-hard-sigmoid": fused(', activation="HardSigmoid", activation_params=[0.1, 0.4]'),
    "quick-gelu": unary("QuickGelu <alpha=1.5>"),
    "gelu-microsoft": unary("Gelu"),
    "bias-gelu": Case("y = com.microsoft.BiasGelu (x, b)", f"{X}, real[4] b", output="real[N,3,4] y"),
    "product": product("N,3,4", "N,4,5", "N,3,5", "alpha=0.7"),
    "product-left": product("N,4,3", "N,4,5", "N,3,5", "alpha=0.7, transA=1"),
    "product-right": product("N,3,4", "N,5,4", "N,3,5", "alpha=0.7, transB=1"),
    "product-both": product("N,2,4,3", "N,2,5,4", "N,2,3,5", "transA=1, transB=1"),
    "product-shared": product("N,3,4", "5,4", "N,3,5", "alpha=2.0, transB=1"),
    "product-spread": product("N,1,4,3", "2,4,5", "N,2,3,5", "transA=1"),
}
