import CKernels
import Tensors

extension Activation {
    /// out ← act(gate) · up for one row; out may be an operand.
    func forward(
        gate: UnsafePointer<Float>, up: UnsafePointer<Float>, into out: UnsafeMutablePointer<Float>, _ count: Int
    ) {
        switch self {
        case .identity: ck_multiply(gate, up, out, count)
        case .silu: ck_silu_multiply(gate, up, out, count)
        case .geluTanh: ck_gelu_tanh_multiply(gate, up, out, count)
        case .gelu: ck_gelu_multiply(gate, up, out, count)
        case .relu: ck_relu_multiply(gate, up, out, count)
        case .relu2: ck_relu2_multiply(gate, up, out, count)
        case .quickGELU: ck_quick_gelu_multiply(gate, up, out, count)
        }
    }

    /// Backward of it: `gradient` comes as the product's and leaves as the gate's.
    func backward(
        gate: UnsafePointer<Float>, up: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>,
        up upGradient: UnsafeMutablePointer<Float>, _ count: Int
    ) {
        switch self {
        case .identity: ck_multiply_backward(gate, up, gradient, upGradient, count)
        case .silu: ck_silu_multiply_backward(gate, up, gradient, upGradient, count)
        case .geluTanh: ck_gelu_tanh_multiply_backward(gate, up, gradient, upGradient, count)
        case .gelu: ck_gelu_multiply_backward(gate, up, gradient, upGradient, count)
        case .relu: ck_relu_multiply_backward(gate, up, gradient, upGradient, count)
        case .relu2: ck_relu2_multiply_backward(gate, up, gradient, upGradient, count)
        case .quickGELU: ck_quick_gelu_multiply_backward(gate, up, gradient, upGradient, count)
        }
    }

    /// out ← act(x) for one row; out may be x.
    func forward(_ x: UnsafePointer<Float>, into out: UnsafeMutablePointer<Float>, _ count: Int) {
        switch self {
        case .identity: if out != UnsafeMutablePointer(mutating: x) { out.update(from: x, count: count) }
        case .silu: ck_silu(x, out, count)
        case .geluTanh: ck_gelu_tanh(x, out, count)
        case .gelu: ck_gelu(x, out, count)
        case .relu: ck_relu(x, out, count)
        case .relu2: ck_relu2(x, out, count)
        case .quickGELU: ck_quick_gelu(x, out, count)
        }
    }

    /// gradient ← gradient · act'(x).
    func backward(_ x: UnsafePointer<Float>, gradient: UnsafeMutablePointer<Float>, _ count: Int) {
        switch self {
        case .identity: break
        case .silu: ck_silu_backward(x, gradient, count)
        case .geluTanh: ck_gelu_tanh_backward(x, gradient, count)
        case .gelu: ck_gelu_backward(x, gradient, count)
        case .relu: ck_relu_backward(x, gradient, count)
        case .relu2: ck_relu2_backward(x, gradient, count)
        case .quickGELU: ck_quick_gelu_backward(x, gradient, count)
        }
    }
}
