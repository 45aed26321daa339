import Files
import Glibc
import JSON

extension GGUFMetadata {
    /// `rope_scaling`.
    public func scaling() throws(CheckpointError) -> JSONValue {
        let key = "\(name).rope.scaling.type"
        let type = try reader.string(key) ?? "none"
        let linear = try number("rope.scale_linear")
        let factor = try number("rope.scaling.factor") ?? linear ?? 1
        switch type {
        case "none" where (linear ?? 1) == 1, "linear" where factor == 1:
            return try frequencies.map { list throws(CheckpointError) in try llama3(list) } ?? .null
        case "linear" where frequencies == nil, "none" where frequencies == nil:
            guard factor > 0 else {
                throw .invalid(path: path, place: "metadata \(key)", found: "factor \(factor)", expected: "more than 0")
            }
            return ["rope_type": "linear", "factor": .number(factor)]
        default:
            throw .invalid(
                path: path, place: "metadata \(key)",
                found: frequencies == nil ? type : "\(type) beside rope_freqs.weight",
                expected: "none, linear or LLaMA 3's factors")
        }
    }

    /// The parameters of LLaMA 3's scaling that give these divisors of the frequencies.
    ///
    /// The file holds only the result. The factor is the largest divisor; the original context and the two bounds are
    /// searched among the values that models use, and taken only if each divisor comes out to single precision.
    private func llama3(_ divisors: [Float]) throws(CheckpointError) -> JSONValue {
        guard divisors.count == headSize / 2, divisors.allSatisfy({ $0.isFinite && $0 > 0 }) else {
            throw .invalid(
                path: path, place: "tensor rope_freqs.weight", found: "\(divisors.count) values",
                expected: "\(headSize / 2) finite positive ones, half the head size")
        }
        if divisors.allSatisfy({ $0 == 1 }) { return .null }
        let factor = Double(divisors.max() ?? 1)
        for context in [8192, 4096, 16384, 2048, 32768, 65536, 131_072] {
            for (low, high) in [(1.0, 4.0), (1.0, 2.0), (1.0, 8.0), (2.0, 4.0), (1.0, 32.0)] {
                let agrees = divisors.indices.allSatisfy { index in
                    let expected = divisor(index, factor: factor, low: low, high: high, context: Double(context))
                    return abs(Double(divisors[index]) - expected) <= 4e-6 * expected
                }
                guard agrees else { continue }
                return [
                    "rope_type": "llama3", "factor": .number(factor), "low_freq_factor": .number(low),
                    "high_freq_factor": .number(high), "original_max_position_embeddings": .integer(context),
                ]
            }
        }
        throw .invalid(
            path: path, place: "tensor rope_freqs.weight", found: "divisors of no LLaMA 3 scaling that is known",
            expected: "those of a factor with low_freq_factor 1 and high_freq_factor 4 or the like; "
                + "use the original Hugging Face folder instead")
    }

    private func divisor(_ index: Int, factor: Double, low: Double, high: Double, context: Double) -> Double {
        let wavelength = 2 * Double.pi * pow(rotaryBase, Double(2 * index) / Double(headSize))
        if wavelength < context / high { return 1 }
        if wavelength > context / low { return factor }
        let smooth = (context / wavelength - low) / (high - low)
        return 1 / ((1 - smooth) / factor + smooth)
    }
}
