import GraphIR

/// Which blocks of the towers a pass works on.
package enum LayerChoice: Sendable, Hashable {
  /// The second of every two.
  case everyOther
  /// The last so many.
  case last(Int)
  /// These, counted from 1; `tower` nil for both towers.
  case listed([Listed])

  /// A block by number.
  package struct Listed: Sendable, Hashable {
    /// The tower; nil for both.
    package let tower: Tower?
    /// The number, from 1.
    package let layer: Int

    /// Names block `layer` of `tower`.
    package init(tower: Tower?, layer: Int) {
      self.tower = tower
      self.layer = layer
    }
  }

  /// Reads `every-other`, `last:N`, `all`, or numbers from 1 such as `2,4,6`, each of which can name
  /// its tower as in `image:5,text:2`; nil where the text is none of these.
  package init?(parsing text: String) {
    if text == "every-other" {
      self = .everyOther
      return
    }
    if text == "all" {
      self = .last(.max)
      return
    }
    if text.hasPrefix("last:") {
      guard let count = Int(text.dropFirst(5)), count > 0 else { return nil }
      self = .last(count)
      return
    }
    var listed: [Listed] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let pieces = part.split(separator: ":", maxSplits: 1)
      guard let last = pieces.last, let layer = Int(last), layer > 0 else { return nil }
      var tower: Tower?
      if pieces.count == 2 {
        guard let named = Tower(rawValue: String(pieces[0])) else { return nil }
        tower = named
      }
      let entry = Listed(tower: tower, layer: layer)
      guard !listed.contains(entry) else { return nil }
      listed.append(entry)
    }
    self = .listed(listed)
  }

  /// The chosen of `count` blocks of `tower`, ascending from 0.
  ///
  /// - Throws: ``PassError`` when a number is beyond the depth.
  package func layers(of tower: Tower, count: Int) throws(PassError) -> [Int] {
    switch self {
    case .everyOther: return Array(stride(from: 1, to: count, by: 2))
    case .last(let last):
      guard last == .max || last <= count else {
        throw .option(
          name: "layers", expected: "at most the \(count) of the \(tower.rawValue) tower",
          found: "last:\(last)")
      }
      return Array(max(0, count - last)..<count)
    case .listed(let listed):
      var layers = Set<Int>()
      for entry in listed where entry.tower ?? tower == tower {
        guard entry.layer <= count else {
          throw .option(
            name: "layers",
            expected: "numbers of 1 to \(count), the layers of the \(tower.rawValue) tower",
            found: "\(entry.layer)")
        }
        layers.insert(entry.layer - 1)
      }
      return layers.sorted()
    }
  }
}

extension LayerChoice: CustomStringConvertible {
  package var description: String {
    switch self {
    case .everyOther: "every-other"
    case .last(.max): "all"
    case .last(let count): "last:\(count)"
    case .listed(let listed):
      listed.map { ($0.tower.map { "\($0.rawValue):" } ?? "") + "\($0.layer)" }
        .joined(separator: ",")
    }
  }
}

extension LayerChoice: Codable {
  package init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    guard let choice = LayerChoice(parsing: text) else {
      throw DecodingError.dataCorrupted(
        DecodingError.Context(
          codingPath: decoder.codingPath, debugDescription: "no choice of layers: \(text)"))
    }
    self = choice
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
