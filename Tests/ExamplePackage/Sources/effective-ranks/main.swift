import Checkpoints
import Foundation
import Spectra
import Tokenizers
import Transformer

guard CommandLine.arguments.count == 3 else {
    print("usage: effective-ranks CHECKPOINT TEXT")
    exit(64)
}
let source = try Checkpoint.open(CommandLine.arguments[1])
guard let blob = try source.tokenizer() else {
    print("\(source.path): carries no tokenizer")
    exit(65)
}
let tokenizer = try makeTokenizer(from: blob, path: source.path)
let ids = try tokenizer.encode(String(contentsOfFile: CommandLine.arguments[2], encoding: .utf8))

let decoder = try Decoder(from: source, includingHead: false)
try decoder.validate(ids)
let configuration = decoder.configuration
let request = SpectrumRequest(
    modules: [.linear(.query), .linear(.up), .linear(.down)], layers: Array(0..<configuration.layers))
let analysis = SpectrumAnalysis(request, of: decoder)

// One sequence of at most 512 tokens after the other; the analysis keeps sums, not activations.
let length = 512
let workspace = Workspace(decoder, maximumTokens: length, longestSequence: length)
for start in stride(from: 0, to: ids.count, by: length) {
    let sequence = ids[start..<min(start + length, ids.count)]
    decoder.forward(TokenBatch([sequence]), in: workspace, layers: analysis.layersNeeded, observer: analysis)
}

for spectrum in try analysis.spectra() {
    let ranks = EffectiveRanks(
        singularValues: spectrum.singularValues, alphas: [0.95], quarter: configuration.hiddenSize / 4)
    print("layer \(spectrum.key.layer) \(spectrum.key.module.name): \(ranks.energyRanks[0]) of \(spectrum.features)")
}
