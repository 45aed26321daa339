import Checkpoints
import Foundation
import Spectra
import Tokenizers
import Transformer

guard CommandLine.arguments.count == 3 else {
    print("usage: effective-ranks CHECKPOINT TEXT")
    exit(64)
}
let source = try openModel(CommandLine.arguments[1])
guard let blob = try source.tokenizer() else {
    print("\(source.path): carries no tokenizer")
    exit(65)
}
let tokenizer = try makeTokenizer(from: blob, path: source.path)
let ids = try tokenizer.encode(String(contentsOfFile: CommandLine.arguments[2], encoding: .utf8))

let model = try LanguageModel(from: source, includingHead: false)
let description = model.description
let request = SpectrumRequest(
    modules: try ["q", "up", "down"].map { try MeasuredModule($0, of: description) },
    blocks: Array(description.blocks.indices))
let analysis = try SpectrumAnalysis(request, of: model)

// One sequence of at most 512 tokens after the other; the analysis keeps sums, not activations.
let length = 512
let workspace = Workspace(model, maximumTokens: length, longestSequence: length)
for start in stride(from: 0, to: ids.count, by: length) {
    let sequence = ids[start..<min(start + length, ids.count)]
    try model.validate(Array(sequence))
    model.forward(TokenBatch([sequence]), in: workspace, blocks: analysis.blocksNeeded, observer: analysis)
}

for spectrum in try analysis.spectra() {
    let ranks = EffectiveRanks(
        singularValues: spectrum.singularValues, alphas: [0.95], quarter: description.hiddenSize / 4)
    print("layer \(spectrum.key.block) \(spectrum.key.module.name): \(ranks.energyRanks[0]) of \(spectrum.features)")
}
