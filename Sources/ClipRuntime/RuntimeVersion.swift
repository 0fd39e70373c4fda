/// The version of the library and of the program around it.
public enum RuntimeVersion {
  /// Three numbers with points between.
  public static var text: StaticString { "0.1.0" }
}
