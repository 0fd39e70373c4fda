extension Augmentation: CustomStringConvertible {
  /// The augmentation as ``init(parsing:)`` reads it: `none`, or parts with commas between.
  package var description: String {
    var parts: [String] = []
    if let crop {
      parts.append(crop.areaText)
      if crop.aspectRange != ResizedCrop.standardAspectRange { parts.append(crop.aspectText) }
    }
    if padding != 0 { parts.append("pad=\(padding)") }
    if flipProbability != 0 { parts.append("flip=\(flipProbability)") }
    if brightness != 0 { parts.append("brightness=\(brightness)") }
    return parts.isEmpty ? "none" : parts.joined(separator: ",")
  }

  /// Reads an augmentation such as `crop=0.6,pad=4,flip=0.5,brightness=0.2`, or `none`.
  ///
  /// The parts may stand in any order: `crop=least` or `crop=least:most` for the area, up to 1 when
  /// only the least is given, `aspect=least:most` beside it for the proportions, `pad=pixels`,
  /// `flip=probability` and `brightness=deviation`.
  ///
  /// - Throws: ``DataError/malformed(place:expected:found:)`` with the part that is wrong.
  package init(parsing text: String) throws(DataError) {
    self = .none
    if TextLines.trim(text) == "none" { return }
    var seen: Set<String> = []
    var aspect: (range: ClosedRange<Double>, part: String)?
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let part = TextLines.trim(String(part))
      let sides = part.split(separator: "=", maxSplits: 1).map(String.init)
      guard sides.count == 2 else {
        throw Self.malformed("none, or parts such as flip=0.5 with commas between", part)
      }
      guard seen.insert(sides[0]).inserted else {
        throw Self.malformed("each part once", part)
      }
      switch sides[0] {
      case "crop": crop = ResizedCrop(areaRange: try Self.range(sides[1], upTo: 1, part))
      case "aspect": aspect = (try Self.range(sides[1], upTo: nil, part), part)
      case "pad":
        guard let pixels = Int(sides[1]) else { throw Self.malformed("whole pixels", part) }
        padding = pixels
      case "flip": flipProbability = try Self.number(sides[1], part)
      case "brightness": brightness = try Self.number(sides[1], part)
      default: throw Self.malformed("crop, aspect, pad, flip or brightness", part)
      }
    }
    if let aspect {
      guard crop != nil else { throw Self.malformed("crop beside aspect", aspect.part) }
      crop?.aspectRange = aspect.range
    }
    try validate()
  }

  private static func number(_ text: some StringProtocol, _ part: String) throws(DataError)
    -> Double
  {
    guard let value = Double(text), value.isFinite else { throw malformed("a number", part) }
    return value
  }

  /// `least:most`, or `least` alone where there is a most by default.
  private static func range(
    _ text: String, upTo most: Double?, _ part: String
  ) throws(DataError) -> ClosedRange<Double> {
    let ends = text.split(separator: ":", omittingEmptySubsequences: false)
    let least = try number(ends.first ?? "", part)
    let last: Double
    if ends.count == 1, let most {
      last = most
    } else if ends.count == 2 {
      last = try number(ends[1], part)
    } else {
      throw malformed("two numbers with a colon between", part)
    }
    guard least <= last else { throw malformed("the lesser number first", part) }
    return least...last
  }
}

extension Augmentation.ResizedCrop {
  /// The areas as ``Augmentation/init(parsing:)`` reads them.
  var areaText: String {
    let (least, most) = (areaRange.lowerBound, areaRange.upperBound)
    return most == 1 ? "crop=\(least)" : "crop=\(least):\(most)"
  }

  /// The proportions as ``Augmentation/init(parsing:)`` reads them.
  var aspectText: String { "aspect=\(aspectRange.lowerBound):\(aspectRange.upperBound)" }
}
