import Tensors

/// Half a unit in the last place of 1 in single precision: the relative error of one rounded operation.
let u = 0x1p-24

func normals(_ count: Int, deviation: Double = 1, seed: UInt64) -> [Float] {
    var generator = SeededGenerator(seed: seed)
    return (0..<count).map { _ in Float(generator.normal() * deviation) }
}

func doubles(_ values: [Float]) -> [Double] { values.map(Double.init) }

/// Runs a loop whose result lies over its operand.
func inPlace(_ x: inout [Float], _ loop: (UnsafeMutablePointer<Float>) -> Void) {
    x.withUnsafeMutableBufferPointer { loop($0.baseAddress!) }
}

/// The derivative of a function in double precision, by central differences of two steps: the error goes with h⁴.
func derivative(at x: Double, _ f: (Double) -> Double) -> Double {
    func slope(_ h: Double) -> Double { (f(x + h) - f(x - h)) / (2 * h) }
    return (4 * slope(0x1p-11) - slope(0x1p-10)) / 3
}
