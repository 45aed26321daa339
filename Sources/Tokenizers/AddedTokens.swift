/// A token that is found in the text before anything else is done to it.
struct AddedToken: Equatable, Sendable {
    var id: UInt32
    /// What to look for: as given, or normalised if `isNormalized`.
    var content: [UInt8]
    /// Not inside a longer word.
    var isSingleWord = false
    /// Swallows the white space to its left.
    var stripsLeft = false
    /// Swallows the white space to its right.
    var stripsRight = false
    /// Looked for in the normalised text.
    var isNormalized = false
    /// Stands for structure rather than text.
    var isSpecial = false
}

/// Cuts a text at the added tokens in it: the leftmost first, of several at one place the longest.
struct AddedTokenMatcher: Sendable {
    /// A stretch of the text: a token, or what lies between two tokens (`id` is `nil`).
    struct Segment: Equatable {
        var start: Int
        var end: Int
        var id: UInt32?
    }

    private let tokens: [AddedToken]
    private var canStart = [Bool](repeating: false, count: 256)
    /// A trie: from node and byte to node; node 0 is the root.
    private var edges: [UInt64: Int] = [:]
    /// The token that ends at a node.
    private var tokenAtNode: [Int?] = [nil]

    init(_ tokens: [AddedToken]) {
        self.tokens = tokens.filter { !$0.content.isEmpty }
        for (index, token) in self.tokens.enumerated() {
            canStart[Int(token.content[0])] = true
            var node = 0
            for byte in token.content {
                let edge = UInt64(node) << 8 | UInt64(byte)
                if let existing = edges[edge] {
                    node = existing
                } else {
                    node = tokenAtNode.count
                    edges[edge] = node
                    tokenAtNode.append(nil)
                }
            }
            tokenAtNode[node] = index
        }
    }

    func segments(_ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int) -> [Segment] {
        var result: [Segment] = []
        var covered = start
        var position = start
        while let (token, found) = nextMatch(text, position, end) {
            position = found + token.content.count
            if token.isSingleWord {
                let before = found > start ? decodeScalar(before: found, text).scalar : nil
                let after = position < end ? decodeScalar(position, text, end).scalar : nil
                if isWordCharacter(before) || isWordCharacter(after) { continue }
            }
            var tokenStart = found
            var tokenEnd = position
            if token.stripsLeft {
                while tokenStart > covered {
                    let (scalar, length) = decodeScalar(before: tokenStart, text)
                    guard isWhiteSpace(scalar) else { break }
                    tokenStart -= length
                }
                tokenStart = max(tokenStart, covered)
            }
            if token.stripsRight {
                while tokenEnd < end {
                    let (scalar, length) = decodeScalar(tokenEnd, text, end)
                    guard isWhiteSpace(scalar) else { break }
                    tokenEnd += length
                }
            }
            if covered < tokenStart { result.append(Segment(start: covered, end: tokenStart, id: nil)) }
            result.append(Segment(start: tokenStart, end: tokenEnd, id: token.id))
            covered = tokenEnd
        }
        if covered < end { result.append(Segment(start: covered, end: end, id: nil)) }
        return result
    }

    private func nextMatch(_ text: UnsafePointer<UInt8>, _ start: Int, _ end: Int) -> (AddedToken, Int)? {
        guard !tokens.isEmpty else { return nil }
        return canStart.withUnsafeBufferPointer { canStart in
            var position = start
            while position < end {
                guard canStart[Int(text[position])] else {
                    position += 1
                    continue
                }
                var longest: Int?
                var node = 0
                var index = position
                while index < end, let child = edges[UInt64(node) << 8 | UInt64(text[index])] {
                    node = child
                    index += 1
                    if let token = tokenAtNode[node] { longest = token }
                }
                if let longest { return (tokens[longest], position) }
                position += 1
            }
            return nil
        }
    }
}

private func isWhiteSpace(_ scalar: UInt32?) -> Bool {
    guard let scalar else { return false }
    return Unicode.Scalar(scalar)!.properties.isWhitespace
}

/// `\w` of Unicode Technical Standard 18.
private func isWordCharacter(_ scalar: UInt32?) -> Bool {
    guard let scalar else { return false }
    let properties = Unicode.Scalar(scalar)!.properties
    if properties.isAlphabetic || properties.isJoinControl { return true }
    switch properties.generalCategory {
    case .nonspacingMark, .spacingMark, .enclosingMark, .decimalNumber, .connectorPunctuation: return true
    default: return false
    }
}
